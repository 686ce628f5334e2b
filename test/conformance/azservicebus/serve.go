package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
	"github.com/portcullis-access/portcullis/pkg/localazure/pki"
	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus"
	"github.com/portcullis-access/portcullis/test/conformance/vendor"
)

const tenant = "11111111-1111-1111-1111-111111111111"

// site has what the namespaces share: the identity endpoint that gives the
// tests their tokens, and the authority that vouches for the namespaces.
type site struct {
	ca     *pki.CA
	ids    *identity.Server
	web    *http.Server
	env    []string
	failed chan error // of the identity endpoint
}

func newSite() (*site, error) {
	dir, err := filepath.Abs(vendor.Dir) // the tests run elsewhere
	if err != nil {
		return nil, err
	}
	ca, err := pki.New(filepath.Join(dir, "ca"))
	if err != nil {
		return nil, err
	}
	secret := rand.Text()
	ids, err := identity.New(identity.Config{
		Issuer: "https://localhost/" + tenant + "/v2.0", TenantID: tenant, IdentityHeader: secret,
		ManagedIdentities: []identity.Principal{{ObjectID: "22222222-2222-2222-2222-222222222222",
			ClientID: "33333333-3333-3333-3333-333333333333", Name: "conformance"}},
	})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{ca: ca, ids: ids, web: &http.Server{Handler: ids, ReadHeaderTimeout: 10 * time.Second}, failed: make(chan error, 1)}
	go func() { s.failed <- s.web.Serve(l) }()
	s.env = []string{
		"AZURE_RECORD_MODE=live",
		"AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential",
		"IDENTITY_ENDPOINT=http://" + l.Addr().String() + "/msi/token",
		"IDENTITY_HEADER=" + secret,
		"SSL_CERT_FILE=" + ca.CertFile(),
	}
	return s, nil
}

// close stops the endpoint; the error is that of having stopped before.
func (s *site) close() error {
	_ = s.web.Close()
	if err := <-s.failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// namespace starts one for an attempt at a test. Its environment is what the
// tests read (azservicebus, internal/test).
func (s *site) namespace(test string) (env []string, after func() error, err error) {
	policies := []servicebus.Policy{
		{Name: "All", Key: rand.Text(), Manage: true},
		{Name: "NoManage", Key: rand.Text(), Send: true, Listen: true},
		{Name: "SendOnly", Key: rand.Text(), Send: true},
		{Name: "ListenOnly", Key: rand.Text(), Listen: true},
	}
	bus, err := servicebus.New(servicebus.Config{Entities: entities(), Verify: s.ids.Verify, Policies: policies})
	if err != nil {
		return nil, nil, err
	}
	if err := bus.Faults().Set(plan(test)); err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	endpoint := strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
	cert, err := s.ca.Server("localhost", endpoint)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	served := make(chan error, 1)
	go func() {
		served <- bus.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	}()
	connection := func(p servicebus.Policy) string {
		return "Endpoint=sb://" + endpoint + "/;SharedAccessKeyName=" + p.Name + ";SharedAccessKey=" + p.Key
	}
	return []string{
		"SERVICEBUS_ENDPOINT=" + endpoint,
		"SERVICEBUS_ENDPOINT_PREMIUM=" + endpoint,
		"SERVICEBUS_CONNECTION_STRING=" + connection(policies[0]),
		"SERVICEBUS_CONNECTION_STRING_PREMIUM=" + connection(policies[0]),
		"SERVICEBUS_CONNECTION_STRING_NO_MANAGE=" + connection(policies[1]),
		"SERVICEBUS_CONNECTION_STRING_SEND_ONLY=" + connection(policies[2]),
		"SERVICEBUS_CONNECTION_STRING_LISTEN_ONLY=" + connection(policies[3]),
	}, func() error { return errors.Join(bus.Close(), <-served) }, nil
}

// entities are those that Microsoft's own deployment for the tests has, in
// test-resources.bicep; the tests make the others.
func entities() servicebus.Entities {
	return servicebus.Entities{Queues: []servicebus.Queue{
		{Name: "testQueue"},
		{Name: "testQueueWithSessions", Settings: servicebus.Settings{RequiresSession: true}},
	}}
}

// trickle is the test that compares how many messages arrive within 20 ms and
// within 20 s, and takes for granted that the first are not all 1,000 of them.
const trickle = "TestReceiveWithDifferentWaitTime"

// plan is what a test takes for granted of the service besides its answers.
func plan(test string) fault.Plan {
	if test != trickle {
		return fault.Plan{}
	}
	return fault.Plan{Rules: []fault.Rule{{On: "receive *", Do: fault.Slow, Delay: fault.Duration(time.Millisecond)}}}
}
