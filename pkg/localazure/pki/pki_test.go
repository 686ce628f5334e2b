package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/pki"
)

func newCA(t *testing.T, dir string) *pki.CA {
	t.Helper()
	ca, err := pki.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// A handshake under each name a client of the stack uses, including the
// "host:port" that azservicebus takes for the TLS server name.
func TestServerIsTrustedUnderItsNames(t *testing.T) {
	ca := newCA(t, t.TempDir())
	cert, err := ca.Server("localhost", "127.0.0.1", "::1", "localhost:5673", "127.0.0.1:5673")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"localhost":      true,
		"127.0.0.1":      true,
		"::1":            true,
		"localhost:5673": true,
		"127.0.0.1:5673": true,
		"localhost:5674": false,
		"example.com":    false,
	} {
		t.Run(name, func(t *testing.T) {
			err := handshake(t, cert, ca.Pool(), name)
			if (err == nil) != want {
				t.Errorf("handshake as %q: %v, want success %t", name, err, want)
			}
		})
	}
}

func handshake(t *testing.T, cert tls.Certificate, roots *x509.CertPool, serverName string) error {
	t.Helper()
	serverSide, clientSide := net.Pipe()
	done := make(chan error, 1)
	go func() {
		server := tls.Server(serverSide, &tls.Config{Certificates: []tls.Certificate{cert}})
		defer serverSide.Close()
		if err := server.Handshake(); err != nil {
			done <- err
			return
		}
		_, err := io.WriteString(server, "x")
		done <- err
	}()
	client := tls.Client(clientSide, &tls.Config{RootCAs: roots, ServerName: serverName})
	err := client.Handshake()
	if err == nil {
		_, err = io.ReadFull(client, make([]byte, 1))
	}
	clientSide.Close()
	if serverErr := <-done; err == nil && serverErr != nil {
		return fmt.Errorf("server: %w", serverErr)
	}
	return err
}

func TestReuse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	first := newCA(t, dir)
	before := read(t, first.CertFile())
	cert, err := first.Server("localhost")
	if err != nil {
		t.Fatal(err)
	}
	second := newCA(t, dir)
	if !bytes.Equal(before, read(t, second.CertFile())) {
		t.Error("a second New replaced the CA")
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: second.Pool(), DNSName: "localhost"}); err != nil {
		t.Errorf("a certificate of the first run is not trusted in the second: %v", err)
	}
	if !bytes.Equal(before, read(t, filepath.Join(dir, "bundle.pem"))) {
		t.Error("bundle.pem is not the CA alone")
	}
	info, err := os.Stat(filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("key mode = %o, want 600", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.pem.*")); len(left) != 0 {
		t.Errorf("temporary files left behind: %q", left)
	}
}

// A stored CA that ends soon is replaced, key and all, before clients meet it.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	old := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, dir, "ca.pem", old)
	write(t, dir, "ca-key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	ca := newCA(t, dir)
	if bytes.Equal(old, read(t, ca.CertFile())) {
		t.Error("a CA with a day left was kept")
	}
	cert, err := ca.Server("localhost")
	if err != nil {
		t.Fatal(err)
	}
	if err := handshake(t, cert, newCA(t, dir).Pool(), "localhost"); err != nil {
		t.Error(err)
	}
}

func TestBrokenStoreIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"key missing": func(t *testing.T, dir string) { remove(t, dir, "ca-key.pem") },
		"key garbled": func(t *testing.T, dir string) { write(t, dir, "ca-key.pem", []byte("nonsense")) },
		"cert garbled": func(t *testing.T, dir string) {
			write(t, dir, "ca.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		},
		"key of another CA": func(t *testing.T, dir string) {
			other := t.TempDir()
			newCA(t, other)
			write(t, dir, "ca-key.pem", read(t, filepath.Join(other, "ca-key.pem")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			newCA(t, dir)
			spoil(t, dir)
			if _, err := pki.New(dir); err == nil {
				t.Error("New accepted a broken store")
			}
		})
	}
	t.Run("cut off before the certificate", func(t *testing.T) {
		dir := t.TempDir()
		newCA(t, dir)
		remove(t, dir, "ca.pem")
		if _, err := pki.New(dir); err != nil {
			t.Errorf("New did not start afresh: %v", err)
		}
	})
}

func TestServerRefusesNothingToCertify(t *testing.T) {
	ca := newCA(t, t.TempDir())
	if _, err := ca.Server(); err == nil {
		t.Error("Server() without hosts succeeded")
	}
	if _, err := ca.Server("localhost", ""); err == nil {
		t.Error("Server with an empty host succeeded")
	}
	if _, err := pki.New(""); err == nil {
		t.Error(`New("") succeeded`)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
