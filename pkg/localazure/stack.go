// Package localazure is a stand-in for the parts of Azure that Portcullis uses,
// for a machine without it: Service Bus, Table and Blob Storage, Resource Manager, Entra
// and managed identity, and the Functions host, on loopback sockets. The
// product's own binary and its SDKs talk to it as they talk to Azure; what
// differs is endpoints in the configuration.
package localazure

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/golang-jwt/jwt/v5"
	"github.com/portcullis-access/portcullis/pkg/localazure/blobs"
	"github.com/portcullis-access/portcullis/pkg/localazure/functionshost"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
	"github.com/portcullis-access/portcullis/pkg/localazure/pki"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables"
)

// The identities of the local tenant.
const (
	TenantID = "11111111-1111-1111-1111-111111111111"
	// ClientID is the user-assigned identity of the function app.
	ClientID = "22222222-2222-2222-2222-222222222222"
	// Audience is what a user's token for Portcullis is issued for.
	Audience = "api://portcullis"

	account    = "devstoreaccount1"
	sasKeyName = "RootManageSharedAccessKey"
	// anchors is the container of the audit's anchors, under a policy as in a
	// deployment.
	anchors = "anchors"
)

// appRoles are those of the app registration: the sign-in page offers them.
var appRoles = []string{"Access.Request", "Access.RequestForOthers", "Access.ReadAll", "Portcullis.Administer"}

// Ports are the loopback ports of the stack; 0 takes a free one.
type Ports struct{ ServiceBus, Tables, ResourceManager, Identity, ManagedIdentity, Functions, Blobs int }

// DefaultPorts are the ports of the stack unless others are asked for.
func DefaultPorts() Ports {
	return Ports{ServiceBus: 5671, Tables: 10002, ResourceManager: 8443, Identity: 8444, ManagedIdentity: 8445, Functions: 7071, Blobs: 10000}
}

// Config describes a stack.
type Config struct {
	// Dir keeps the local CA; it is made if missing.
	Dir string
	// AppRoot is the staged function app; "" starts no Functions host.
	AppRoot string
	// Topology and Entities are the documents of the machines and of the queues.
	Topology, Entities []byte
	Ports              Ports
	// OperationLatency is how long a Resource Manager write takes.
	OperationLatency time.Duration
	// ClientAddress is where the function app's callers seem to come from; invalid
	// leaves them their loopback address.
	ClientAddress netip.Addr
	// Settings are app settings that go to the handler besides the stack's own.
	Settings map[string]string
	// Stdout takes the handler's and the host's lines.
	Stdout io.Writer
	Logger *slog.Logger
}

// Stack is a running local Azure.
type Stack struct {
	ServiceBus      *servicebus.Server
	Tables          *tables.Server
	Blobs           *blobs.Server
	ResourceManager *resourcemanager.Server
	Identity        *identity.Server
	Host            *functionshost.Host

	env      map[string]string
	settings map[string]string
	closers  []func() error
	failed   chan error
	hostDone chan struct{}
	stopHost context.CancelFunc
}

// Start starts every part and returns once all of them serve. Close it in any
// case but an error.
func Start(ctx context.Context, cfg Config) (s *Stack, err error) {
	s = &Stack{failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	topology, err := resourcemanager.ParseTopology(cfg.Topology)
	if err != nil {
		return s, fmt.Errorf("topology: %w", err)
	}
	entities, err := servicebus.ParseEntities(cfg.Entities)
	if err != nil {
		return s, fmt.Errorf("entities: %w", err)
	}
	// Other processes, in other folders, read the CA by its path.
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return s, err
	}
	ca, err := pki.New(cfg.Dir)
	if err != nil {
		return s, err
	}
	b := &builder{Stack: s, cfg: cfg, ca: ca}
	if err := b.listen(); err != nil {
		return s, err
	}
	if err := b.secrets(); err != nil {
		return s, err
	}
	if err := b.serve(topology, entities); err != nil {
		return s, err
	}
	b.describe(topology.Subscription)
	if cfg.AppRoot != "" {
		return s, b.host(ctx)
	}
	return s, nil
}

// Env is what a client in any language needs to reach the stack, by name.
func (s *Stack) Env() map[string]string { return s.env }

// Failed gives the error of a part that stopped by itself.
func (s *Stack) Failed() <-chan error { return s.failed }

// Close stops every part and leaves no process behind.
func (s *Stack) Close() error {
	if s.stopHost != nil {
		s.stopHost()
		<-s.hostDone
	}
	var err error
	for i := len(s.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closers[i]())
	}
	s.closers = nil
	return err
}

// builder holds what only the start needs.
type builder struct {
	*Stack
	cfg                                         Config
	ca                                          *pki.CA
	bus, table, blob, arm, issuer, managed, fun net.Listener
	sasKey, accountKey, identityHeader          string
}

func (b *builder) listen() error {
	for _, l := range []struct {
		to   *net.Listener
		port int
		name string
	}{
		{&b.bus, b.cfg.Ports.ServiceBus, "Service Bus"}, {&b.table, b.cfg.Ports.Tables, "Tables"}, {&b.blob, b.cfg.Ports.Blobs, "Blobs"},
		{&b.arm, b.cfg.Ports.ResourceManager, "Resource Manager"}, {&b.issuer, b.cfg.Ports.Identity, "identity"},
		{&b.managed, b.cfg.Ports.ManagedIdentity, "managed identity"}, {&b.fun, b.cfg.Ports.Functions, "Functions"},
	} {
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port)))
		if err != nil {
			return fmt.Errorf("%s: %w (ask for free ports, or stop what holds this one)", l.name, err)
		}
		*l.to = ln
		b.closers = append(b.closers, func() error { return ignoreClosed(ln.Close()) })
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (b *builder) secrets() error {
	for _, to := range []*string{&b.sasKey, &b.accountKey} {
		var raw [32]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return err
		}
		*to = base64.StdEncoding.EncodeToString(raw[:])
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return err
	}
	b.identityHeader = hex.EncodeToString(raw[:])
	return nil
}

func address(l net.Listener) string {
	return net.JoinHostPort("localhost", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

func (b *builder) issuerURL() string {
	return "https://" + address(b.issuer) + "/" + TenantID + "/v2.0"
}

func (b *builder) serve(topology resourcemanager.Topology, entities servicebus.Entities) error {
	var err error
	if b.Identity, err = identity.New(identity.Config{
		Issuer: b.issuerURL(), TenantID: TenantID, IdentityHeader: b.identityHeader,
		ManagedIdentities: []identity.Principal{{ObjectID: "33333333-3333-3333-3333-333333333333", ClientID: ClientID, Name: "portcullis"}},
		Logger:            b.cfg.Logger,
	}); err != nil {
		return err
	}
	if b.ServiceBus, err = servicebus.New(servicebus.Config{
		Entities: entities, Verify: b.Identity.Verify, SASKeyName: sasKeyName, SASKey: b.sasKey, Logger: b.cfg.Logger,
	}); err != nil {
		return err
	}
	if b.Tables, err = tables.New(tables.Config{Account: account, Key: b.accountKey, Verify: b.Identity.Verify, Logger: b.cfg.Logger}); err != nil {
		return err
	}
	if b.Blobs, err = blobs.New(blobs.Config{
		Account: account, Key: b.accountKey, Verify: b.Identity.Verify, Logger: b.cfg.Logger, Containers: []blobs.Container{{Name: anchors, Immutable: true}},
	}); err != nil {
		return err
	}
	if b.ResourceManager, err = resourcemanager.New(resourcemanager.Config{
		Verify: b.Identity.Verify, Topology: topology, OperationLatency: b.cfg.OperationLatency,
		BaseURL: "https://" + address(b.arm), Logger: b.cfg.Logger,
	}); err != nil {
		return err
	}
	// azservicebus takes host:port for the TLS server name when the port is not
	// the default one, so the certificate names that too.
	cert, err := b.ca.Server("localhost", "127.0.0.1", address(b.bus))
	if err != nil {
		return err
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	bus := tls.NewListener(b.bus, conf)
	b.run("Service Bus", func() error { return b.ServiceBus.Serve(bus) })
	b.closers = append(b.closers, b.ServiceBus.Close)
	b.http("Tables", tls.NewListener(b.table, conf), b.Tables)
	b.http("Blobs", tls.NewListener(b.blob, conf), b.Blobs)
	b.http("Resource Manager", tls.NewListener(b.arm, conf), b.ResourceManager)
	b.http("identity", tls.NewListener(b.issuer, conf), b.Identity)
	b.http("managed identity", b.managed, b.Identity)
	return nil
}

func (b *builder) run(name string, f func() error) {
	go func() {
		if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			select {
			case b.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
		}
	}()
}

func (b *builder) http(name string, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(b.cfg.Logger.Handler(), slog.LevelDebug)}
	b.run(name, func() error { return srv.Serve(l) })
	b.closers = append(b.closers, srv.Close)
}

func (b *builder) describe(subscription string) {
	port := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }
	tablesURL := "https://127.0.0.1:" + port(b.table) + "/" + account
	blobsURL := "https://127.0.0.1:" + port(b.blob) + "/" + account
	arm := "https://" + address(b.arm)
	managed := "http://127.0.0.1:" + port(b.managed) + "/msi/token"
	b.settings = map[string]string{
		"ServiceBus__fullyQualifiedNamespace": address(b.bus),
		"ServiceBus__credential":              "managedidentity",
		"ServiceBus__clientId":                ClientID,
		"Tables__endpoint":                    tablesURL,
		"Tables__credential":                  "managedidentity",
		"Tables__clientId":                    ClientID,
		"PORTCULLIS_ANCHORS_URL":              blobsURL + "/" + anchors,
		"AZURE_CLIENT_ID":                     ClientID,
		"AZURE_SUBSCRIPTION_IDS":              subscription,
		"ARM_ENDPOINT":                        arm,
		"ARM_AUDIENCE":                        "https://management.azure.com",
		"PORTCULLIS_ISSUER":                   b.issuerURL(),
		"PORTCULLIS_JWKS_URL":                 "https://" + address(b.issuer) + "/" + TenantID + "/discovery/v2.0/keys",
		"PORTCULLIS_AUDIENCES":                Audience,
		"PORTCULLIS_TENANT_ID":                TenantID,
		"IDENTITY_ENDPOINT":                   managed,
		"IDENTITY_HEADER":                     b.identityHeader,
		"SSL_CERT_FILE":                       b.ca.CertFile(),
	}
	b.env = map[string]string{
		"SERVICEBUS_FULLY_QUALIFIED_NAMESPACE": address(b.bus),
		"SERVICEBUS_CONNECTION_STRING":         "Endpoint=sb://" + address(b.bus) + "/;SharedAccessKeyName=" + sasKeyName + ";SharedAccessKey=" + b.sasKey,
		"AZURE_STORAGE_CONNECTION_STRING":      "DefaultEndpointsProtocol=https;AccountName=" + account + ";AccountKey=" + b.accountKey + ";TableEndpoint=" + tablesURL + ";BlobEndpoint=" + blobsURL + ";",
		"AZURE_TABLES_ENDPOINT":                tablesURL,
		"AZURE_SUBSCRIPTION_ID":                subscription,
		"FUNCTIONS_ENDPOINT":                   "http://127.0.0.1:" + port(b.fun),
		"PORTCULLIS_URL":                       "http://127.0.0.1:" + port(b.fun),
		"NODE_EXTRA_CA_CERTS":                  b.ca.CertFile(),
		"PORTCULLIS_LOCAL_MINT_ENDPOINT":       "http://127.0.0.1:" + port(b.managed) + "/mint",
	}
	for k, v := range b.cfg.Settings {
		b.settings[k] = v
	}
	for k, v := range b.settings {
		b.env[k] = v
	}
}

func (b *builder) host(ctx context.Context) error {
	pem, err := os.ReadFile(b.ca.CertFile())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	root, err := filepath.Abs(b.cfg.AppRoot)
	if err != nil {
		return err
	}
	b.Host, err = functionshost.New(functionshost.Config{
		AppRoot: root, Settings: b.settings, Keys: map[string]string{"_master": b.identityHeader},
		ServiceBus: func(connection string) (*azservicebus.Client, error) {
			if connection != "ServiceBus" {
				return nil, fmt.Errorf("no such connection: %s", connection)
			}
			return azservicebus.NewClientFromConnectionString(b.env["SERVICEBUS_CONNECTION_STRING"],
				&azservicebus.ClientOptions{TLSConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
		},
		Verify: func(ctx context.Context, token string) (map[string]any, error) {
			if err := b.Identity.Verify(ctx, token, Audience); err != nil {
				return nil, err
			}
			claims := jwt.MapClaims{}
			_, _, err := jwt.NewParser().ParseUnverified(token, claims) // verified the line before
			return claims, err
		},
		ClientAddress: b.cfg.ClientAddress,
		SignIn: &functionshost.SignIn{Roles: appRoles, Mint: func(_ context.Context, name string, roles []string) (string, error) {
			return b.Identity.Mint(identity.UserToken{Name: name, Audience: Audience, Roles: roles})
		}},
		Stdout: b.cfg.Stdout, Logger: b.cfg.Logger,
	})
	if err != nil {
		return err
	}
	b.http("Functions", b.fun, b.Host)
	hostCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.stopHost, b.hostDone = cancel, make(chan struct{})
	go func() {
		defer close(b.hostDone)
		if err := b.Host.Run(hostCtx); err != nil && hostCtx.Err() == nil {
			b.failed <- fmt.Errorf("functions host: %w", err)
		}
	}()
	select {
	case <-b.Host.Ready():
		return nil
	case err := <-b.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
