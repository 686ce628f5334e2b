package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
	"github.com/portcullis-access/portcullis/pkg/localazure/pki"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables"
)

const (
	account = "conformance"
	// storageHosts and cosmosHosts are where the tests take their accounts to be.
	storageHosts = ".table.core.windows.net"
	cosmosHosts  = ".table.cosmos.azure.com"
	// managedIdentity is the client id of the identity that the tests run under.
	managedIdentity = "22222222-2222-2222-2222-222222222222"
)

// azure is what one test takes for Azure: a storage account at its real
// address, which a proxy of ours leads to, and a managed identity.
type azure struct {
	storage, elsewhere, identity, proxy *httptest.Server

	key, secret, trust string
}

func newAzure(ca *pki.CA) (*azure, error) {
	const tenant = "11111111-1111-1111-1111-111111111111"
	a := &azure{secret: rand.Text(), trust: ca.CertFile()}
	var key [64]byte
	_, _ = rand.Read(key[:]) // it never fails
	a.key = base64.StdEncoding.EncodeToString(key[:])
	issuer, err := identity.New(identity.Config{
		Issuer: "https://localhost/" + tenant + "/v2.0", TenantID: tenant, IdentityHeader: a.secret,
		ManagedIdentities: []identity.Principal{{ObjectID: "33333333-3333-3333-3333-333333333333", ClientID: managedIdentity, Name: account}},
	})
	if err != nil {
		return nil, err
	}
	server, err := tables.New(tables.Config{Account: account, Key: a.key, Verify: issuer.Verify})
	if err != nil {
		return nil, err
	}
	cert, err := ca.Server(account+storageHosts, account+"-secondary"+storageHosts, account+cosmosHosts)
	if err != nil {
		return nil, err
	}
	secure := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		return s
	}
	a.storage = secure(server)
	a.elsewhere = secure(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "nothing but Table Storage is imitated", http.StatusNotImplemented)
	}))
	a.identity, a.proxy = httptest.NewServer(issuer), httptest.NewServer(http.HandlerFunc(a.connect))
	return a, nil
}

// env is what leads a test here. Its clients find the proxy as every Go program
// does.
func (a *azure) env() []string {
	return []string{
		"AZURE_RECORD_MODE=live",
		"TABLES_STORAGE_ACCOUNT_NAME=" + account, "TABLES_PRIMARY_STORAGE_ACCOUNT_KEY=" + a.key,
		"TABLES_COSMOS_ACCOUNT_NAME=" + account, "TABLES_PRIMARY_COSMOS_ACCOUNT_KEY=" + a.key,
		"HTTPS_PROXY=" + a.proxy.URL, "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE=" + a.trust,
		// DefaultAzureCredential is to try the managed identity alone.
		"AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential", "AZURE_CLIENT_ID=" + managedIdentity,
		"IDENTITY_ENDPOINT=" + a.identity.URL + "/msi/token", "IDENTITY_HEADER=" + a.secret,
		"SYSTEM_ACCESSTOKEN=", "AZURE_SERVICE_DIRECTORY=",
	}
}

func (a *azure) close() error {
	for _, s := range []*httptest.Server{a.proxy, a.storage, a.elsewhere, a.identity} {
		s.CloseClientConnections()
		s.Close()
	}
	return nil
}

// connect is the proxy: it joins a client to the server for the host that it
// asked for.
func (a *azure) connect(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	to := a.elsewhere
	if host == account+storageHosts || host == account+"-secondary"+storageHosts {
		to = a.storage
	}
	upstream, err := net.Dial("tcp", to.Listener.Addr().String())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = upstream.Close() }()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = client.Close() }()
	// Either side's end ends both; what went wrong, the test tells.
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(upstream, buffered)
		_ = upstream.Close()
	}()
	_, _ = io.Copy(client, upstream)
}

// emulator serves the account that TestAzurite has written into it, under the
// public key of all emulators, where it looks for one. What it gives is nil if
// something else is there.
func emulator() (*http.Server, error) {
	s, err := tables.New(tables.Config{
		Account: "devstoreaccount1",
		Key:     "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
	})
	if err != nil {
		return nil, fmt.Errorf("the emulator: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:10002")
	if err != nil {
		return nil, nil // taken, for whatever reason
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(l) }() // until it is closed
	return web, nil
}
