package resourcemanager

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// plan sets a plan of one rule.
func (f *fixture) plan(r fault.Rule) {
	f.t.Helper()
	if err := f.Faults().Set(fault.Plan{Rules: []fault.Rule{r}}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) struck() int {
	_, counts := f.Faults().State()
	return counts[0].Struck
}

// awaitStrike waits until a request has come in and met the plan.
func (f *fixture) awaitStrike() {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); f.struck() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal("no request has come in")
		}
	}
}

// put writes the rule ssh into the web subnet's group through the SDK and gives
// the first answer's error.
func (f *fixture) put(ctx context.Context) error {
	f.t.Helper()
	_, err := f.rulesClient().BeginCreateOrUpdate(ctx, "prod", "nsg-web-subnet", "ssh", sshRule(200, "203.0.113.7"), nil)
	return err
}

// there says whether the rule ssh is in force.
func (f *fixture) there() bool {
	f.t.Helper()
	_, err := f.rulesClient().Get(f.t.Context(), "prod", "nsg-web-subnet", "ssh", nil)
	if status, _ := errorCode(err); err != nil && status != 404 {
		f.t.Fatal(err)
	}
	return err == nil
}

// Each kind that refuses a write, as the SDK sees it, and nothing written.
func TestFaultsThatRefuse(t *testing.T) {
	ruleOp, groupOp := "PUT */nsg-web-subnet/securityRules/*", "PUT */networkSecurityGroups/nsg-web-subnet"
	anyTag := func(ctx context.Context) context.Context {
		return policy.WithHTTPHeader(ctx, http.Header{"If-Match": {"*"}})
	}
	for name, tc := range map[string]struct {
		rule    fault.Rule
		whole   bool
		context func(context.Context) context.Context
		status  int
		code    string
		after   string
	}{
		"throttle":            {rule: fault.Rule{On: ruleOp, Do: fault.Throttle, Delay: fault.Duration(17 * time.Second)}, status: 429, code: "SubscriptionRequestsThrottled", after: "17"},
		"throttle, no delay":  {rule: fault.Rule{On: ruleOp, Do: fault.Throttle}, status: 429, code: "SubscriptionRequestsThrottled", after: "1"},
		"lock":                {rule: fault.Rule{On: ruleOp, Do: fault.Lock}, status: 409, code: "ScopeLocked"},
		"refuse":              {rule: fault.Rule{On: ruleOp, Do: fault.Refuse}, status: 403, code: "AuthorizationFailed"},
		"conflict on a rule":  {rule: fault.Rule{On: ruleOp, Do: fault.Conflict}, status: 429, code: "RetryableError", after: "1"},
		"conflict on a group": {rule: fault.Rule{On: groupOp, Do: fault.Conflict}, whole: true, status: 409, code: "AnotherOperationInProgress", after: "1"},
		"conflict, If-Match":  {rule: fault.Rule{On: groupOp, Do: fault.Conflict}, whole: true, context: anyTag, status: 412, code: "PreconditionFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil)
			before, _ := f.NSG(web)
			f.plan(tc.rule)
			ctx := t.Context()
			if tc.context != nil {
				ctx = tc.context(ctx)
			}
			err := f.put
			if tc.whole {
				err = f.putWhole
			}
			var refused *azcore.ResponseError
			if !errors.As(err(ctx), &refused) || refused.StatusCode != tc.status || refused.ErrorCode != tc.code {
				t.Fatalf("%v, want %d %s", refused, tc.status, tc.code)
			}
			if got := refused.RawResponse.Header.Get("Retry-After"); got != tc.after {
				t.Errorf("Retry-After = %q, want %q", got, tc.after)
			}
			if tc.rule.Do == fault.Throttle && refused.RawResponse.Header.Get("X-Ms-Ratelimit-Remaining-Subscription-Writes") != "0" {
				t.Errorf("remaining writes: %v", refused.RawResponse.Header)
			}
			if after, _ := f.NSG(web); string(before) != string(after) || f.Stats().NSGWrites != 0 {
				t.Errorf("it was written: %s", after)
			}
		})
	}
}

func (f *fixture) putWhole(ctx context.Context) error {
	f.t.Helper()
	got, err := f.groupsClient().Get(f.t.Context(), "prod", "nsg-web-subnet", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = f.groupsClient().BeginCreateOrUpdate(ctx, "prod", "nsg-web-subnet", got.SecurityGroup, nil)
	return err
}

// Locks and conflicts are of writes: a rule that names everything leaves reads be.
func TestFaultsLeaveReadsBe(t *testing.T) {
	f := start(t, nil)
	for _, kind := range []fault.Kind{fault.Lock, fault.Conflict} {
		f.plan(fault.Rule{On: "*", Do: kind})
		if f.there() {
			t.Error("a rule that nobody wrote")
		}
		if f.put(t.Context()) == nil || f.there() {
			t.Errorf("%s: the write went through", kind)
		}
	}
	f.plan(fault.Rule{On: "GET *", Do: fault.Refuse})
	_, err := f.groupsClient().Get(t.Context(), "prod", "nsg-web-subnet", nil)
	if status, code := errorCode(err); status != 403 || code != "AuthorizationFailed" {
		t.Errorf("a refused read: %v", err)
	}
}

func TestFaultsThatCutTheConnection(t *testing.T) {
	for kind, written := range map[fault.Kind]bool{fault.Drop: false, fault.LoseReply: true} {
		f := start(t, nil)
		f.plan(fault.Rule{On: "PUT *", Do: kind, Times: 1})
		err := f.put(t.Context())
		if status, _ := errorCode(err); err == nil || status != 0 {
			t.Errorf("%s: %v, want no answer", kind, err)
		}
		if f.there() != written || f.struck() != 1 {
			t.Errorf("%s: written %t, struck %d times", kind, f.there(), f.struck())
		}
	}
}

// A paused or slow request has no effect until it goes on, and holds up no other.
func TestFaultsThatHold(t *testing.T) {
	for _, rule := range []fault.Rule{
		{On: "PUT *", Do: fault.Pause},
		{On: "PUT *", Do: fault.Slow, Delay: fault.Duration(24 * time.Hour)},
	} {
		f := start(t, nil)
		f.plan(rule)
		done := make(chan error, 1)
		go func() { done <- f.put(t.Context()) }()
		f.awaitStrike()
		if f.there() {
			t.Errorf("%s: written too early", rule.Do)
		}
		f.plan(fault.Rule{On: "nothing", Do: fault.Drop})
		if err := <-done; err != nil || !f.there() {
			t.Errorf("%s: %v, written %t", rule.Do, err, f.there())
		}

		f.plan(rule)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := f.rulesClient().BeginCreateOrUpdate(ctx, "prod", "nsg-web-1-nic", "ssh", sshRule(200, "203.0.113.7"), nil)
			done <- err
		}()
		f.awaitStrike()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want that the client gave up", rule.Do, err)
		}
		// The server's Close waits for its requests: it ends only if they do.
		f.web.Close()
		if f.Stats().NSGWrites != 1 {
			t.Errorf("%s: what the client gave up was written", rule.Do)
		}
	}
}

func TestOperationFaults(t *testing.T) {
	t.Run("slow", func(t *testing.T) {
		f := start(t, func(c *Config) { c.OperationLatency = time.Second })
		f.plan(fault.Rule{On: "operation nsg-web-subnet", Do: fault.Slow, Delay: fault.Duration(9 * time.Second)})
		put := f.want(201, "", "PUT", web+"/securityRules/ssh", ssh)
		other := f.want(201, "", "PUT", nsgs+"/nsg-db-1-nic/securityRules/ssh", ssh)
		if put.header.Get("Retry-After") != "10" || other.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After = %q, %q", put.header.Get("Retry-After"), other.header.Get("Retry-After"))
		}
		f.clock.advance(9 * time.Second)
		f.wantOperation(put, "InProgress")
		f.wantOperation(other, "Succeeded")
		f.clock.advance(time.Second)
		f.wantOperation(put, "Succeeded")
	})
	t.Run("pause", func(t *testing.T) {
		f := start(t, nil)
		f.plan(fault.Rule{On: "operation *", Do: fault.Pause})
		put := f.want(201, "", "PUT", web+"/securityRules/ssh", ssh)
		f.clock.advance(24 * time.Hour)
		f.wantOperation(put, "InProgress")
		f.want(429, "RetryableError", "DELETE", web+"/securityRules/ssh", "")
		f.plan(fault.Rule{On: "nothing", Do: fault.Drop})
		f.wantOperation(put, "Succeeded")
		f.want(202, "", "DELETE", web+"/securityRules/ssh", "")
	})
	t.Run("conflict", func(t *testing.T) {
		f := start(t, func(c *Config) { c.OperationLatency = time.Minute })
		f.plan(fault.Rule{On: "operation nsg-web-subnet", Do: fault.Conflict, Times: 1})
		remove, err := f.rulesClient().BeginDelete(t.Context(), "prod", "nsg-web-subnet", "AllowHttpsInBound", nil)
		if err != nil {
			t.Fatal(err)
		}
		f.want(409, "AnotherOperationInProgress", "PUT", web, whole())
		f.clock.advance(time.Minute)
		if _, err := remove.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := remove.Result(t.Context()); err == nil || !strings.Contains(err.Error(), "CanceledAndSupersededDueToAnotherOperation") {
			t.Errorf("the superseded removal: %v", err)
		}
		if got := f.want(200, "", "GET", https, "").at("properties", "provisioningState"); got != "Succeeded" {
			t.Errorf("the rule is %v", got)
		}
	})
}

// wantOperation checks the state of the operation that the answer names.
func (f *fixture) wantOperation(a answer, status string) {
	f.t.Helper()
	if got := f.call("GET", a.header.Get("Azure-AsyncOperation"), "").at("status"); got != status {
		f.t.Errorf("operation %v, want %s", got, status)
	}
}

// The plan is served with no token, and asked only about requests with one.
func TestFaultsAreServed(t *testing.T) {
	f := start(t, nil)
	f.want(200, "", "PUT", f.web.URL+fault.Path, `{"rules":[{"on":"PUT */ssh","do":"refuse"}]}`, "Authorization", "")
	f.want(401, "AuthenticationFailed", "PUT", web+"/securityRules/ssh", ssh, "Authorization", "")
	f.want(400, "MissingApiVersionParameter", "PUT", web+"/securityRules/ssh?x=y", ssh)
	f.want(403, "AuthorizationFailed", "PUT", web+"/securityRules/ssh", ssh)
	a := f.want(200, "", "GET", f.web.URL+fault.Path, "", "Authorization", "")
	if want := `"counts":[{"matched":1,"struck":1}]`; !strings.Contains(string(a.raw), want) {
		t.Errorf("%s, want %s", a.raw, want)
	}
	resp, err := f.web.Client().Post(f.web.URL+fault.Path, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s, %v", resp.Status, err)
	}
}
