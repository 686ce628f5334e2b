package identity_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

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
