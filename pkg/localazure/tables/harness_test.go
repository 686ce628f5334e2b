package tables

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

const (
	testAccount = "devstoreaccount1"
	// The key that the public emulators document; it protects nothing.
	testKey   = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	goodToken = "a-good-token"
)

// harness is a server behind real TLS, and the clients to reach it with.
type harness struct {
	*Server
	web *httptest.Server
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	s, err := New(Config{Account: testAccount, Key: testKey, Verify: func(_ context.Context, token, audience string) error {
		if token != goodToken || audience != "https://storage.azure.com" {
			return errors.New("not a good token")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{Server: s, web: httptest.NewTLSServer(s)}
	t.Cleanup(h.web.Close)
	return h
}

func (h *harness) options() *aztables.ClientOptions {
	o := &aztables.ClientOptions{}
	o.Transport = h.web.Client()
	o.Retry.MaxRetries = -1
	return o
}

type fakeCredential string

func (c fakeCredential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != "https://storage.azure.com/.default" {
		return azcore.AccessToken{}, errors.New("unexpected scope")
	}
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (h *harness) withToken(t *testing.T, url string) *aztables.ServiceClient {
	t.Helper()
	c, err := aztables.NewServiceClient(url, fakeCredential(goodToken), h.options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (h *harness) withKey(t *testing.T, url string) *aztables.ServiceClient {
	t.Helper()
	cred, err := aztables.NewSharedKeyCredential(testAccount, testKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := aztables.NewServiceClientWithSharedKey(url, cred, h.options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// table makes a table and a client for it.
func (h *harness) table(t *testing.T) *aztables.Client {
	t.Helper()
	c := h.withToken(t, h.web.URL+"/"+testAccount).NewClient("People")
	if _, err := c.CreateTable(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// answer is what came back from a raw request.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the error code in the body, which must be the one in the header.
func (a answer) code(t *testing.T) string {
	t.Helper()
	var doc struct {
		Error struct {
			Code    string
			Message struct{ Lang, Value string }
		} `json:"odata.error"`
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	if h := a.header.Get("x-ms-error-code"); h != doc.Error.Code {
		t.Errorf("header says %q, body %q", h, doc.Error.Code)
	}
	return doc.Error.Code
}

// raw sends a request as it stands, with a good token unless headers say
// otherwise. headers are "Name: value" lines.
func (h *harness) raw(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.web.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+goodToken)
	req.Header.Set("Accept", "application/json")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if value == "" {
			req.Header.Del(name)
			continue
		}
		req.Header.Set(name, value)
	}
	res, err := h.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// wantCode checks that err is the service's answer with this status and code.
func wantCode(t *testing.T, err error, status int, code aztables.TableErrorCode) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != status || e.ErrorCode != string(code) {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
