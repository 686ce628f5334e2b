package identity_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/identity"
)

const tenant = "11111111-1111-1111-1111-111111111111"

type issuer struct {
	key *rsa.PrivateKey
	web *httptest.Server
}

func start(t *testing.T) (*issuer, *identity.Verifier) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.web = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(i.web.Close)
	v, err := identity.NewVerifier(identity.Config{Issuer: "https://issuer/v2.0", JWKSURL: i.web.URL, Audiences: []string{"api://p", "p"}, TenantID: tenant}, i.web.Client())
	if err != nil {
		t.Fatal(err)
	}
	return i, v
}

func claims(change func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": "https://issuer/v2.0", "aud": "api://p", "tid": tenant, "oid": "o", "preferred_username": "alice@contoso.com",
		"exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(-time.Minute).Unix(), "roles": []string{"r"},
	}
	if change != nil {
		change(c)
	}
	return c
}

func sign(t *testing.T, method jwt.SigningMethod, kid string, key any, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	token.Header["kid"] = kid
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func with(header, value string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set(header, value)
	return r
}

func TestATokenNamesItsCaller(t *testing.T) {
	i, v := start(t)
	good := sign(t, jwt.SigningMethodRS256, "k", i.key, claims(nil))
	for header, value := range map[string]string{"Authorization": "Bearer " + good, "X-Ms-Token-Aad-Id-Token": good} {
		c, err := v.Verify(t.Context(), with(header, value))
		if err != nil || c.Name != "alice@contoso.com" || c.Principal() != tenant+"/o" || !c.Has("r") || c.Has("x") {
			t.Errorf("%s: %+v, %v", header, c, err)
		}
	}
}

func TestEverythingElseIsRefused(t *testing.T) {
	i, v := start(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := func(k string, x any) jwt.MapClaims { return claims(func(c jwt.MapClaims) { c[k] = x }) }
	rs := jwt.SigningMethodRS256
	for name, token := range map[string]string{
		"another issuer":   sign(t, rs, "k", i.key, set("iss", "https://other/v2.0")),
		"another audience": sign(t, rs, "k", i.key, set("aud", "api://other")),
		"another tenant":   sign(t, rs, "k", i.key, set("tid", "x")),
		"expired":          sign(t, rs, "k", i.key, set("exp", time.Now().Add(-time.Hour).Unix())),
		"not yet":          sign(t, rs, "k", i.key, set("nbf", time.Now().Add(time.Hour).Unix())),
		"no object id":     sign(t, rs, "k", i.key, claims(func(c jwt.MapClaims) { delete(c, "oid") })),
		"another key":      sign(t, rs, "k", other, claims(nil)),
		"unknown key":      sign(t, rs, "z", other, claims(nil)),
		"no algorithm":     sign(t, jwt.SigningMethodNone, "k", jwt.UnsafeAllowNoneSignatureType, claims(nil)),
		"a MAC by the key": sign(t, jwt.SigningMethodHS256, "k", i.key.N.Bytes(), claims(nil)),
		"not a token":      "x",
		"empty":            "",
	} {
		if _, err := v.Verify(t.Context(), with("Authorization", "Bearer "+token)); access.CodeOf(err) != access.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What any outsider can set proves nothing.
	if _, err := v.Verify(t.Context(), with("X-MS-CLIENT-PRINCIPAL-NAME", "alice@contoso.com")); access.ReasonOf(err) != "token_missing" {
		t.Errorf("principal header: %v", err)
	}
	i.web.Close()
	fresh, err := identity.NewVerifier(identity.Config{Issuer: "https://issuer/v2.0", JWKSURL: i.web.URL, Audiences: []string{"p"}, TenantID: tenant}, i.web.Client())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Verify(t.Context(), with("Authorization", "Bearer "+sign(t, rs, "k", i.key, claims(nil)))); access.CodeOf(err) != access.Unavailable {
		t.Errorf("keys out of reach: %v", err)
	}
}
