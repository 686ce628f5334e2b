package blobs

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	azcontainer "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

const (
	testAccount = "devstoreaccount1"
	// The key that the public emulators document; it protects nothing.
	testKey   = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	goodToken = "a-good-token"
)

type harness struct {
	*Server
	web *httptest.Server
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	s, err := New(Config{
		Account: testAccount, Key: testKey, Containers: []Container{{Name: "plain"}, {Name: "kept", Immutable: true}},
		Verify: func(_ context.Context, token, audience string) error {
			if token != goodToken || audience != "https://storage.azure.com" {
				return errors.New("not a good token")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{Server: s, web: httptest.NewTLSServer(s)}
	t.Cleanup(h.web.Close)
	return h
}

// raw sends a request as it stands, with a good token unless headers say
// otherwise. headers are "Name: value" lines.
func (h *harness) raw(t *testing.T, method, path, body string, headers ...string) (status int, code, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.web.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+goodToken)
	req.Header.Set("x-ms-blob-type", "BlockBlob")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if req.Header.Set(name, value); value == "" {
			req.Header.Del(name)
		}
	}
	res, err := h.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("x-ms-request-id") == "" {
		t.Errorf("%s %s: no request id", method, path)
	}
	return res.StatusCode, res.Header.Get("x-ms-error-code"), string(data)
}

func TestWhatEachCallAnswers(t *testing.T) {
	h := newHarness(t)
	const plain, kept = "/" + testAccount + "/plain", "/" + testAccount + "/kept"
	for _, c := range []struct {
		method, path, headers string
		status                int
		code                  string
	}{
		// documented: "Put Blob", "Specifying conditional headers for Blob service operations"
		{"PUT", plain + "/a/b.json", "If-None-Match: *", 201, ""},
		{"PUT", plain + "/a/b.json", "If-None-Match: *", 409, "BlobAlreadyExists"},
		{"PUT", plain + "/a/b.json", "If-Match: \"0x1\"", 412, "ConditionNotMet"},
		{"PUT", plain + "/a/b.json", "", 201, ""},
		{"PUT", plain + "/c", "If-Match: *", 412, "ConditionNotMet"},
		{"PUT", plain + "/c", "Content-MD5: AAAA", 400, "Md5Mismatch"},
		{"PUT", plain + "/c", "x-ms-blob-type: ", 400, "MissingRequiredHeader"},
		{"PUT", plain + "/c", "x-ms-blob-type: AppendBlob", 501, "NotImplemented"},
		{"PUT", plain + "/c?comp=block", "", 501, "NotImplemented"},
		{"GET", plain + "/a/b.json", "", 200, ""},
		{"HEAD", plain + "/a/b.json", "", 200, ""},
		{"GET", plain + "/c", "", 404, "BlobNotFound"},
		{"GET", "/" + testAccount + "/none/c", "", 404, "ContainerNotFound"},
		{"DELETE", plain + "/a/b.json", "", 202, ""},
		{"DELETE", plain + "/a/b.json", "", 404, "BlobNotFound"},
		{"PUT", "/" + testAccount + "/new?restype=container", "", 201, ""},
		{"PUT", "/" + testAccount + "/new?restype=container", "", 409, "ContainerAlreadyExists"},
		{"DELETE", "/" + testAccount + "/kept?restype=container", "", 501, "NotImplemented"},
		{"GET", "/other/plain/a", "", 400, "InvalidUri"},
		// documented: "Store business-critical blob data with immutable storage"
		{"PUT", kept + "/x", "", 201, ""},
		{"PUT", kept + "/x", "", 409, "BlobImmutableDueToPolicy"},
		{"DELETE", kept + "/x", "", 409, "BlobImmutableDueToPolicy"},
		{"GET", kept + "/x", "", 200, ""},
		// inferred: the condition is answered before the policy is
		{"PUT", kept + "/x", "If-None-Match: *", 409, "BlobAlreadyExists"},
		// documented: "Authorize requests to Azure Storage"
		{"GET", kept + "/x", "Authorization: ", 401, "NoAuthenticationInformation"},
		{"GET", kept + "/x", "Authorization: Bearer bad", 401, "InvalidAuthenticationInfo"},
		{"GET", kept + "/x", "Authorization: SharedKey devstoreaccount1:AAAA", 403, "AuthenticationFailed"},
		{"GET", "/other/plain/a", "Authorization: ", 401, "NoAuthenticationInformation"},
	} {
		status, code, body := h.raw(t, c.method, c.path, "the body", c.headers)
		if status != c.status || code != c.code || code != "" && c.method != "HEAD" && !strings.Contains(body, "<Code>"+code+"</Code>") {
			t.Errorf("%s %s %s: %d %s %s, want %d %s", c.method, c.path, c.headers, status, code, body, c.status, c.code)
		}
		if c.method == "GET" && status == 200 && body != "the body" {
			t.Errorf("%s: %q", c.path, body)
		}
	}
}

type fakeCredential struct{}

func (fakeCredential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != "https://storage.azure.com/.default" {
		return azcore.AccessToken{}, errors.New("unexpected scope")
	}
	return azcore.AccessToken{Token: goodToken, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestTheSDKReachesItByTokenAndByKey(t *testing.T) {
	h := newHarness(t)
	o := &azcontainer.ClientOptions{}
	o.Transport = h.web.Client()
	cred, err := azcontainer.NewSharedKeyCredential(testAccount, testKey)
	if err != nil {
		t.Fatal(err)
	}
	url := h.web.URL + "/" + testAccount + "/kept"
	byKey, err := azcontainer.NewClientWithSharedKeyCredential(url, cred, o)
	if err != nil {
		t.Fatal(err)
	}
	byToken, err := azcontainer.NewClient(url, fakeCredential{}, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*azcontainer.Client{"a key's": byKey, "a token's": byToken} {
		p, err := c.GetProperties(t.Context(), nil)
		if err != nil || p.HasImmutabilityPolicy == nil || !*p.HasImmutabilityPolicy {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		if _, err := c.NewBlobClient(name).Delete(t.Context(), nil); !bloberror.HasCode(err, bloberror.BlobNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{Key: testKey}, {Account: "a/b", Key: testKey}, {Account: "a"}, {Account: "a", Key: "secret!"}} {
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%+v was accepted", cfg)
		} else if cfg.Key != "" && strings.Contains(err.Error(), cfg.Key) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
}
