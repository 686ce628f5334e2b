package identity_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/identity"
)

// publisher is an issuer's key endpoint without a socket, so that it works in a
// bubble of its own time.
type publisher struct {
	fetches int
	down    bool
	status  int
	body    []byte
}

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.fetches++
	if p.down {
		return nil, errors.New("no route to host")
	}
	return &http.Response{StatusCode: p.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(p.body)), Request: r}, nil
}

func (p *publisher) publish(t testing.TB, keys map[string]*rsa.PrivateKey) {
	t.Helper()
	var set jose.JSONWebKeySet
	for id, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: &k.PublicKey, KeyID: id, Algorithm: "RS256", Use: "sig"})
	}
	body, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	p.status, p.body = http.StatusOK, body
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func verifierOf(t *testing.T, p *publisher) *identity.Verifier {
	t.Helper()
	v, err := identity.NewVerifier(identity.Config{Issuer: "https://issuer/v2.0", JWKSURL: "https://issuer/keys", Audiences: []string{"api://p"}, TenantID: tenant}, &http.Client{Transport: p})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTokensOfUnknownKeysDoNotFloodTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, key, next := &publisher{}, newKey(t), newKey(t)
		p.publish(t, map[string]*rsa.PrivateKey{"k": key})
		v := verifierOf(t, p)
		if p.fetches != 0 {
			t.Fatalf("%d fetches before the first token", p.fetches)
		}
		verify := func(kid string, k *rsa.PrivateKey) error {
			_, err := v.Verify(t.Context(), with("Authorization", "Bearer "+sign(t, jwt.SigningMethodRS256, kid, k, claims(nil))))
			return err
		}
		if err := verify("k", key); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := verify("next", next); access.ReasonOf(err) != "token_invalid" {
				t.Fatalf("an unknown key: %v", err)
			}
		}
		if p.fetches != 1 {
			t.Errorf("%d fetches", p.fetches)
		}
		// A new key of the issuer's is taken up.
		p.publish(t, map[string]*rsa.PrivateKey{"k": key, "next": next})
		time.Sleep(time.Minute) // of the bubble's clock
		if err := verify("next", next); err != nil {
			t.Errorf("after the keys were rolled over: %v", err)
		}
		if err := verify("k", key); err != nil || p.fetches != 2 {
			t.Errorf("%v after %d fetches", err, p.fetches)
		}
	})
}

func TestKeysOutOfReachAreUnavailableAndNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, key := &publisher{down: true}, newKey(t)
		v := verifierOf(t, p)
		// A fetch that has ended is shared until its goroutine is through.
		verify := func(r *http.Request) error {
			defer synctest.Wait()
			_, err := v.Verify(t.Context(), r)
			return err
		}
		good := with("Authorization", "Bearer "+sign(t, jwt.SigningMethodRS256, "k", key, claims(nil)))
		for _, status := range []int{0, http.StatusInternalServerError, http.StatusNotFound} {
			p.down, p.status = status == 0, status
			if err := verify(good); access.CodeOf(err) != access.Unavailable || access.ReasonOf(err) != "keys_unavailable" {
				t.Errorf("answer %d: %v", status, err)
			}
		}
		p.status, p.body = http.StatusOK, []byte("<html>a proxy's page")
		if err := verify(good); access.ReasonOf(err) != "keys_unavailable" {
			t.Errorf("a page: %v", err)
		}
		p.publish(t, map[string]*rsa.PrivateKey{"k": key})
		if err := verify(good); err != nil {
			t.Fatalf("a failure was kept: %v", err)
		}
		p.down = true
		time.Sleep(10 * time.Minute)
		if err := verify(good); err != nil {
			t.Errorf("a known key needs no fetch: %v", err)
		}
	})
}

func TestAFloodOfKeysIsNotRead(t *testing.T) {
	p := &publisher{status: http.StatusOK, body: bytes.Repeat([]byte(" "), 64<<20)}
	_, err := verifierOf(t, p).Verify(t.Context(), with("Authorization", "Bearer "+sign(t, jwt.SigningMethodRS256, "k", newKey(t), claims(nil))))
	if access.CodeOf(err) != access.Unavailable || len(err.Error()) > 4<<10 {
		t.Errorf("%.200v", err)
	}
}

func TestWhereATokenMayStand(t *testing.T) {
	p, key := &publisher{}, newKey(t)
	p.publish(t, map[string]*rsa.PrivateKey{"k": key})
	v := verifierOf(t, p)
	good := sign(t, jwt.SigningMethodRS256, "k", key, claims(nil))
	expired := sign(t, jwt.SigningMethodRS256, "k", key, claims(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() }))
	endless := sign(t, jwt.SigningMethodRS256, "k", key, claims(func(c jwt.MapClaims) { delete(c, "exp") }))
	for name, c := range map[string]struct {
		authorization []string
		easyAuth      string
		want          string // the reason; "" for a caller
	}{
		"the scheme in another case":           {[]string{"bearer " + good}, "", ""},
		"easy auth's":                          {nil, good, ""},
		"none":                                 {nil, "", "token_missing"},
		"another scheme":                       {[]string{"Basic " + good}, "", "token_missing"},
		"another scheme beside easy auth's":    {[]string{"Basic x"}, good, "token_missing"},
		"two":                                  {[]string{"Bearer " + good, "Bearer " + good}, "", "token_missing"},
		"a bad one beside a good easy auth's":  {[]string{"Bearer x"}, good, "token_invalid"},
		"an empty one beside a good easy auth": {[]string{"Bearer "}, good, "token_missing"},
		"one that is too long":                 {[]string{"Bearer " + strings.Repeat("x", 17<<10)}, "", "token_invalid"},
		"one that has expired":                 {[]string{"Bearer " + expired}, "", "token_expired"},
		"one that never expires":               {[]string{"Bearer " + endless}, "", "token_expired"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		// What the platform sets, and anybody can where it does not guard it.
		r.Header.Set("X-MS-CLIENT-PRINCIPAL", "eyJhdXRoX3R5cCI6ImFhZCJ9")
		r.Header.Set("X-MS-CLIENT-PRINCIPAL-ID", "o")
		r.Header["Authorization"] = c.authorization
		if c.easyAuth != "" {
			r.Header.Set("X-MS-TOKEN-AAD-ID-TOKEN", c.easyAuth)
		}
		who, err := v.Verify(t.Context(), r)
		if access.ReasonOf(err) != c.want || (err == nil) != (who.ObjectID == "o") || err != nil && access.CodeOf(err) != access.Unauthenticated {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
		if err != nil && strings.Contains(access.AsError(err).Message, good) {
			t.Errorf("%s: the token is in the message", name)
		}
	}
}

func TestNames(t *testing.T) {
	p, key := &publisher{}, newKey(t)
	p.publish(t, map[string]*rsa.PrivateKey{"k": key})
	v := verifierOf(t, p)
	for name, c := range map[string]struct {
		set  map[string]any
		want string
	}{
		"a user":         {map[string]any{"preferred_username": "a@x", "azp": "app"}, "a@x"},
		"a user of v1.0": {map[string]any{"upn": "a@x"}, "a@x"},
		// The client that a token was issued through is not who it is for: a
		// user's token without the profile scope has it and no user name.
		"a client beside no name": {map[string]any{"azp": "app", "appid": "app"}, "o"},
		"nothing but its object":  {nil, "o"},
	} {
		token := sign(t, jwt.SigningMethodRS256, "k", key, claims(func(m jwt.MapClaims) {
			delete(m, "preferred_username")
			for k, x := range c.set {
				m[k] = x
			}
		}))
		if who, err := v.Verify(t.Context(), with("Authorization", "Bearer "+token)); err != nil || who.Name != c.want || who.ObjectID != "o" || who.TenantID != tenant {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	// Claims of another type than they have are no claims.
	odd := sign(t, jwt.SigningMethodRS256, "k", key, claims(func(m jwt.MapClaims) { m["oid"] = []string{"o"} }))
	if _, err := v.Verify(t.Context(), with("Authorization", "Bearer "+odd)); access.ReasonOf(err) != "token_invalid" {
		t.Errorf("an oid that is a list: %v", err)
	}
}

func TestNewVerifierNeedsItsParts(t *testing.T) {
	full := identity.Config{Issuer: "https://i", JWKSURL: "https://i/keys", Audiences: []string{"a"}, TenantID: tenant}
	for name, change := range map[string]func(*identity.Config){
		"no issuer":            func(c *identity.Config) { c.Issuer = "" },
		"no audience":          func(c *identity.Config) { c.Audiences = nil },
		"no tenant":            func(c *identity.Config) { c.TenantID = "" },
		"keys over plain text": func(c *identity.Config) { c.JWKSURL = "http://i/keys" },
	} {
		c := full
		change(&c)
		if _, err := identity.NewVerifier(c, http.DefaultClient); err == nil {
			t.Errorf("%s: it was made", name)
		}
	}
	if _, err := identity.NewVerifier(full, nil); err == nil {
		t.Error("without a client it was made")
	}
	if _, err := identity.NewVerifier(full, &http.Client{}); err != nil {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0.e30.", "")
	f.Add("Bearer eyJhbGciOiJSUzI1NiJ9.e30.AA", "x.y.z")
	v, err := identity.NewVerifier(identity.Config{Issuer: "https://i", JWKSURL: "https://i/keys", Audiences: []string{"a"}, TenantID: tenant},
		&http.Client{Transport: &publisher{status: http.StatusOK, body: []byte(`{"keys":[]}`)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization, easyAuth string) {
		r := &http.Request{Header: http.Header{"Authorization": {authorization}, "X-Ms-Token-Aad-Id-Token": {easyAuth}}}
		if who, err := v.Verify(context.Background(), r); access.CodeOf(err) != access.Unauthenticated || who.ObjectID != "" {
			t.Errorf("%+v, %v", who, err)
		}
	})
}
