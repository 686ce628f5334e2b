package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"

	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

const (
	tenant = "11111111-1111-1111-1111-111111111111"
	secret = "a-secret-for-this-test"
	app1   = "aaaaaaaa-0000-0000-0000-000000000001"
	app2   = "aaaaaaaa-0000-0000-0000-000000000002"
	arm    = "https://management.azure.com"
)

// testKey is shared by the tests: generating RSA keys is most of their time.
var testKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func config(t *testing.T) identity.Config {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	return identity.Config{
		Issuer:         "https://localhost:8443/" + tenant + "/v2.0",
		TenantID:       tenant,
		IdentityHeader: secret,
		ManagedIdentities: []identity.Principal{
			{ObjectID: "bbbbbbbb-0000-0000-0000-000000000001", ClientID: app1, Name: "handler"},
			{ObjectID: "bbbbbbbb-0000-0000-0000-000000000002", ClientID: app2, Name: "other"},
		},
		Key: key,
	}
}

func newServer(t *testing.T, cfg identity.Config) *identity.Server {
	t.Helper()
	s, err := identity.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A token is accepted by go-oidc, which knows nothing but the issuer's URL.
func TestIssuerServesStandardVerifiers(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	cfg := config(t)
	cfg.Issuer = "https://" + srv.Listener.Addr().String() + "/" + tenant + "/v2.0"
	s := newServer(t, cfg)
	srv.Config.Handler = s
	srv.StartTLS()
	defer srv.Close()

	ctx := oidc.ClientContext(t.Context(), srv.Client())
	provider, err := oidc.NewProvider(ctx, cfg.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Mint(identity.UserToken{Name: "alice@contoso.com", Audience: "api://portcullis", Roles: []string{"Portcullis.Admin"}})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: "api://portcullis"}).Verify(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		TID      string   `json:"tid"`
		OID      string   `json:"oid"`
		Name     string   `json:"name"`
		Username string   `json:"preferred_username"`
		Roles    []string `json:"roles"`
		Version  string   `json:"ver"`
	}
	if err := verified.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if claims.TID != tenant || claims.Username != "alice@contoso.com" || claims.Version != "2.0" ||
		len(claims.Roles) != 1 || claims.Roles[0] != "Portcullis.Admin" || claims.OID == "" || verified.Subject == claims.OID {
		t.Errorf("claims = %+v, subject %s", claims, verified.Subject)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: "another"}).Verify(ctx, token); err == nil {
		t.Error("a token for another audience was accepted")
	}
}

func TestMintDerivesIdentityFromName(t *testing.T) {
	cfg := config(t)
	one, err := newServer(t, cfg).Mint(identity.UserToken{Name: "alice@contoso.com", Audience: "a"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Issuer = "https://localhost:9999/" + tenant + "/v2.0"
	two, err := newServer(t, cfg).Mint(identity.UserToken{Name: "Alice@Contoso.com", Audience: "b"})
	if err != nil {
		t.Fatal(err)
	}
	first, second := claimsOf(t, one), claimsOf(t, two)
	if first["oid"] != second["oid"] {
		t.Errorf("one person, two object ids: %v, %v", first["oid"], second["oid"])
	}
	if first["sub"] == second["sub"] {
		t.Error("sub should differ by audience")
	}
	if _, has := first["roles"]; has {
		t.Error("a person without roles has a roles claim")
	}
	for _, bad := range []identity.UserToken{{Audience: "a"}, {Name: "a"}, {Name: "a", Audience: "a", ObjectID: "not-a-guid"}} {
		if _, err := newServer(t, cfg).Mint(bad); err == nil {
			t.Errorf("Mint(%+v) succeeded", bad)
		}
	}
}

func TestVerify(t *testing.T) {
	cfg := config(t)
	s := newServer(t, cfg)
	mint := func(u identity.UserToken) string {
		t.Helper()
		token, err := s.Mint(u)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := mint(identity.UserToken{Name: "a", Audience: arm})
	otherKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign := cfg
	foreign.Key = otherKey
	stranger, err := newServer(t, foreign).Mint(identity.UserToken{Name: "a", Audience: arm})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := cfg
	elsewhere.Issuer = "https://localhost:1/" + tenant + "/v2.0"
	otherIssuer, err := newServer(t, elsewhere).Mint(identity.UserToken{Name: "a", Audience: arm})
	if err != nil {
		t.Fatal(err)
	}
	parsed, _, err := jwt.NewParser().ParseUnverified(good, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	claims := parsed.Claims
	forge := func(method jwt.SigningMethod, key any) string {
		forged := jwt.NewWithClaims(method, claims)
		forged.Header["kid"] = parsed.Header["kid"]
		out, err := forged.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	publicDER := x509.MarshalPKCS1PublicKey(&cfg.Key.PublicKey)

	for name, tc := range map[string]struct {
		token, audience string
		ok              bool
	}{
		"exact":                  {good, arm, true},
		"slash wanted":           {good, arm + "/", true},
		"scope wanted":           {good, arm + "/.default", true},
		"double-slash scope":     {good, arm + "//.default", true},
		"slash in token":         {mint(identity.UserToken{Name: "a", Audience: arm + "/"}), arm, true},
		"another audience":       {good, "https://servicebus.azure.net", false},
		"audience as prefix":     {good, arm + ".evil.example", false},
		"no audience":            {good, "", false},
		"expired":                {mint(identity.UserToken{Name: "a", Audience: arm, Lifetime: -time.Hour}), arm, false},
		"another key":            {stranger, arm, false},
		"another issuer":         {otherIssuer, arm, false},
		"alg none":               {forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), arm, false},
		"HMAC by the public key": {forge(jwt.SigningMethodHS256, publicDER), arm, false},
		"known kid, foreign key": {forge(jwt.SigningMethodRS256, otherKey), arm, false},
		"empty":                  {"", arm, false},
		"garbage":                {"a.b.c", arm, false},
		"huge":                   {good + strings.Repeat("A", 64<<10), arm, false},
	} {
		err := s.Verify(t.Context(), tc.token, tc.audience)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v, want accepted %t", name, err, tc.ok)
		}
		if err != nil && len(tc.token) > 10 && strings.Contains(err.Error(), tc.token[len(tc.token)-10:]) {
			t.Errorf("%s: the error quotes the token", name)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Verify(cancelled, good, arm); err == nil {
		t.Error("Verify ignored a cancelled context")
	}
}

func TestVerifyFollowsTheClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := config(t)
	cfg.Now = func() time.Time { return now }
	s := newServer(t, cfg)
	token, err := s.Mint(identity.UserToken{Name: "a", Audience: arm, Lifetime: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for offset, ok := range map[time.Duration]bool{-time.Hour: false, 0: true, 9 * time.Minute: true, 11 * time.Minute: false} {
		now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(offset)
		if err := s.Verify(t.Context(), token, arm); (err == nil) != ok {
			t.Errorf("at %s: %v, want accepted %t", offset, err, ok)
		}
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*identity.Config){
		"plain http":             func(c *identity.Config) { c.Issuer = strings.Replace(c.Issuer, "https", "http", 1) },
		"issuer without tenant":  func(c *identity.Config) { c.Issuer = "https://localhost:8443" },
		"another tenant":         func(c *identity.Config) { c.TenantID = "22222222-1111-1111-1111-111111111111" },
		"tenant with a slash":    func(c *identity.Config) { c.TenantID = "a/b"; c.Issuer = "https://localhost/a/b/v2.0" },
		"no secret":              func(c *identity.Config) { c.IdentityHeader = "" },
		"no identity":            func(c *identity.Config) { c.ManagedIdentities = nil },
		"identity without GUIDs": func(c *identity.Config) { c.ManagedIdentities = []identity.Principal{{Name: "x"}} },
		"short key":              func(c *identity.Config) { c.Key = small },
	} {
		cfg := config(t)
		spoil(&cfg)
		if _, err := identity.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func claimsOf(t *testing.T, token string) jwt.MapClaims {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		t.Fatal(fmt.Errorf("not a token: %w", err))
	}
	return claims
}
