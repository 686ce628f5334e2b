package identity_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
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

// credential makes the real ManagedIdentityCredential against the handler.
func credential(t *testing.T, h http.Handler, header string, id azidentity.ManagedIDKind) azcore.TokenCredential {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	t.Setenv("IDENTITY_ENDPOINT", srv.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", header)
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func TestManagedIdentityCredential(t *testing.T) {
	for name, tc := range map[string]struct {
		id      azidentity.ManagedIDKind
		header  string
		client  string
		refused string
	}{
		"system-assigned":         {header: secret, client: app1},
		"by client id":            {id: azidentity.ClientID(app2), header: secret, client: app2},
		"by object id":            {id: azidentity.ObjectID("bbbbbbbb-0000-0000-0000-000000000002"), header: secret, client: app2},
		"unknown client id":       {id: azidentity.ClientID("cccccccc-0000-0000-0000-000000000000"), header: secret, refused: "400"},
		"resource id":             {id: azidentity.ResourceID("/subscriptions/s/x"), header: secret, refused: "400"},
		"wrong secret":            {header: secret + "x", refused: "401"},
		"secret of another shape": {header: "x", refused: "401"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, config(t))
			// MSAL caches for the whole process, by identity and scope: an own scope
			// for each case keeps them apart.
			resource := "https://" + strings.ReplaceAll(name, " ", "-") + ".example"
			cred := credential(t, s, tc.header, tc.id)
			token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Fatalf("GetToken: %v, want a refusal with %s", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), token.Token, resource); err != nil {
				t.Errorf("Verify: %v", err)
			}
			claims := claimsOf(t, token.Token)
			if claims["appid"] != tc.client || claims["tid"] != tenant || claims["idtyp"] != "app" {
				t.Errorf("claims = %v, want client %s", claims, tc.client)
			}
			if got := token.ExpiresOn.Unix(); float64(got) != claims["exp"] {
				t.Errorf("ExpiresOn = %d, the token says %v", got, claims["exp"])
			}
		})
	}
}

func TestManagedIdentityEndpointOverHTTP(t *testing.T) {
	var logged bytes.Buffer
	cfg := config(t)
	cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	s := newServer(t, cfg)
	get := func(query, header string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/msi/token?"+query, nil)
		if header != "" {
			r.Header.Set("X-IDENTITY-HEADER", header)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	const ok = "api-version=2019-08-01&resource=https://servicebus.azure.net"
	for name, tc := range map[string]struct {
		query, header string
		want          int
	}{
		"ok":          {ok, secret, 200},
		"no header":   {ok, "", 401},
		"bad header":  {ok, "guess", 401},
		"no resource": {"api-version=2019-08-01", secret, 400},
		"old api":     {"api-version=2017-09-01&resource=x", secret, 400},
		"no api":      {"resource=x", secret, 400},
	} {
		if got := get(tc.query, tc.header); got.Code != tc.want {
			t.Errorf("%s: %d %s, want %d", name, got.Code, got.Body, tc.want)
		}
	}
	var body map[string]string
	if err := json.Unmarshal(get(ok, secret).Body.Bytes(), &body); err != nil {
		t.Fatalf("every member should be a string, as App Service sends them: %v", err)
	}
	for _, member := range []string{"access_token", "client_id", "expires_on", "resource", "token_type"} {
		if body[member] == "" {
			t.Errorf("%s is missing", member)
		}
	}
	if logged.Len() == 0 {
		t.Error("refusals were not logged")
	}
	if strings.Contains(logged.String(), secret) || strings.Contains(logged.String(), "guess") {
		t.Error("the log holds a secret")
	}
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

func TestMintOverHTTP(t *testing.T) {
	s := newServer(t, config(t))
	post := func(header, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/mint", strings.NewReader(body))
		r.Header.Set("X-IDENTITY-HEADER", header)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	const body = `{"name":"alice@contoso.com","audience":"api://portcullis","roles":["r"],"lifetimeSeconds":60}`
	w := post(secret, body)
	var answer identity.MintResponse
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if err := s.Verify(t.Context(), answer.AccessToken, "api://portcullis"); err != nil {
		t.Error(err)
	}
	if left := time.Until(time.Unix(answer.ExpiresOn, 0)); left > time.Minute {
		t.Errorf("the token lives for %s, want at most a minute", left)
	}
	for name, tc := range map[string]struct {
		header, body string
		want         int
	}{
		"no secret":      {"", body, 401},
		"wrong secret":   {"x", body, 401},
		"not JSON":       {secret, "alice", 400},
		"unknown member": {secret, `{"name":"a","audience":"b","admin":true}`, 400},
		"two bodies":     {secret, body + body, 400},
		"no name":        {secret, `{"audience":"b"}`, 400},
		"no audience":    {secret, `{"name":"b"}`, 400},
		"for ever":       {secret, `{"name":"a","audience":"b","lifetimeSeconds":9223372036854775807}`, 400},
		"negative":       {secret, `{"name":"a","audience":"b","lifetimeSeconds":-1}`, 400},
		"too large":      {secret, `{"name":"` + strings.Repeat("a", 32<<10) + `"}`, 400},
	} {
		if got := post(tc.header, tc.body); got.Code != tc.want || strings.Contains(got.Body.String(), "eyJ") {
			t.Errorf("%s: %d %s, want %d", name, got.Code, got.Body, tc.want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/mint", nil)
	w = httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET /mint = %d", w.Code)
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

func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "signing.pem")
	keys := make([]*rsa.PrivateKey, 3)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			key, err := identity.LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if !keys[0].Equal(keys[1]) || !keys[0].Equal(keys[2]) {
		t.Error("processes starting at once hold different keys")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %o", info.Mode().Perm())
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}

	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	smallDER, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data []byte
		mode os.FileMode
	}{
		"readable by all": {good, 0o644},
		"not PEM":         {[]byte("nonsense"), 0o600},
		"not a key":       {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), 0o600},
		"too short":       {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: smallDER}), 0o600},
	} {
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, tc.data, tc.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := identity.LoadOrCreateKey(file); err == nil {
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

func FuzzMintBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name":"a","audience":"b"}`, `[1]`, `null`, `{"name":"a","audience":"b","lifetimeSeconds":1e9}`} {
		f.Add([]byte(seed))
	}
	key, err := testKey()
	if err != nil {
		f.Fatal(err)
	}
	s, err := identity.New(identity.Config{
		Issuer: "https://localhost/" + tenant + "/v2.0", TenantID: tenant, IdentityHeader: secret, Key: key,
		ManagedIdentities: []identity.Principal{{ObjectID: app1, ClientID: app1}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/mint", bytes.NewReader(body))
		r.Header.Set("X-IDENTITY-HEADER", secret)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 {
			t.Fatalf("%d for %q", w.Code, body)
		}
		if w.Code == 400 {
			return
		}
		var answer identity.MintResponse
		if err := json.NewDecoder(io.LimitReader(w.Body, 1<<20)).Decode(&answer); err != nil || answer.AccessToken == "" {
			t.Fatalf("no token for %q: %v", body, err)
		}
	})
}
