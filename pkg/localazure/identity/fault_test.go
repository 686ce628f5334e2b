package identity_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

// broken starts a server with a plan of one rule, and a credential that tries once.
func broken(t *testing.T, r fault.Rule) (*identity.Server, *httptest.Server, func(ctx context.Context, audience string) error) {
	t.Helper()
	s := newServer(t, config(t))
	if err := s.Faults().Set(fault.Plan{Rules: []fault.Rule{r}}); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	t.Setenv("IDENTITY_ENDPOINT", web.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", secret)
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, web, func(ctx context.Context, audience string) error {
		_, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		return err
	}
}

func TestFaultsOfTheManagedIdentity(t *testing.T) {
	for kind, want := range map[fault.Kind]struct {
		status int
		after  string
	}{
		fault.Throttle: {429, "1"}, fault.Refuse: {403, ""}, fault.Drop: {}, fault.LoseReply: {},
	} {
		// MSAL caches for the whole process: an own audience for each case.
		audience := "https://fault-" + string(kind) + ".example"
		_, _, token := broken(t, fault.Rule{On: "token " + audience, Do: kind})
		err := token(t.Context(), audience)
		var refused *azidentity.AuthenticationFailedError
		var status int
		var after string
		if errors.As(err, &refused) && refused.RawResponse != nil {
			status, after = refused.RawResponse.StatusCode, refused.RawResponse.Header.Get("Retry-After")
		}
		if err == nil || status != want.status || after != want.after {
			t.Errorf("%s: %d, Retry-After %q (%v), want %+v", kind, status, after, err, want)
		}
		if err := token(t.Context(), audience+"/other"); err != nil {
			t.Errorf("%s of another audience: %v", kind, err)
		}
	}
}

func TestFaultsThatHold(t *testing.T) {
	for _, rule := range []fault.Rule{{On: "token *", Do: fault.Pause}, {On: "token *", Do: fault.Slow, Delay: fault.Duration(24 * time.Hour)}} {
		s, web, token := broken(t, rule)
		audience := "https://hold-" + string(rule.Do) + ".example"
		struck := func(n int) {
			t.Helper()
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if _, counts := s.Faults().State(); counts[0].Struck == n {
					return
				}
			}
			t.Fatalf("%s: request %d has not come in", rule.Do, n)
		}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- token(ctx, audience+"/gone") }()
		struck(1)
		cancel()
		if err := <-done; err == nil {
			t.Errorf("%s: a token for who went away", rule.Do)
		}
		go func() { done <- token(t.Context(), audience) }()
		struck(2)
		select {
		case err := <-done:
			t.Errorf("%s: answered too early: %v", rule.Do, err)
		default:
		}
		if err := s.Faults().Set(fault.Plan{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", rule.Do, err)
		}
		web.Close() // waits for its requests, also for the one that nobody awaits
	}
}

func TestFaultsOfTheIssuer(t *testing.T) {
	s, web, _ := broken(t, fault.Rule{On: "nothing", Do: fault.Drop})
	call := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Identity-Header", secret)
		resp, err := web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data)
	}
	const mint = `{"name":"a","audience":"b"}`
	paths := map[string][]string{
		"keys":      {"GET", "/" + tenant + "/discovery/v2.0/keys", ""},
		"discovery": {"GET", "/" + tenant + "/v2.0/.well-known/openid-configuration", ""},
		"mint":      {"POST", "/mint", mint},
	}
	for operation := range paths {
		if status, body := call("PUT", fault.Path, `{"rules":[{"on":"`+operation+`","do":"refuse"}]}`); status != 200 {
			t.Fatal(status, body)
		}
		for other, p := range paths {
			want := 200
			if other == operation {
				want = 403
			}
			if status, body := call(p[0], p[1], p[2]); status != want {
				t.Errorf("%s while %s is refused: %d %s", other, operation, status, body)
			}
		}
	}
	if _, counts := s.Faults().State(); counts[0].Struck != 1 {
		t.Errorf("%+v", counts)
	}
	// What is held still has its body, and the bound on it.
	for body, want := range map[string]int{mint: 200, `{"name":"` + strings.Repeat("a", 32<<10) + `"}`: 400} {
		if err := s.Faults().Set(fault.Plan{Rules: []fault.Rule{{On: "mint", Do: fault.Slow, Delay: 1}}}); err != nil {
			t.Fatal(err)
		}
		if status, answer := call("POST", "/mint", body); status != want {
			t.Errorf("mint after a while: %d %s, want %d", status, answer, want)
		}
	}
}
