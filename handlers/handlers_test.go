package handlers_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

const good = `{"requestor":"alice@contoso.com","justification":"j","virtualMachines":[{"id":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1","ports":[{"number":22,"allowedSourceAddressPrefix":"203.0.113.7","duration":"PT1H"}]}]}`

type fake struct {
	got       []access.Request
	malformed []error
	unwritten error // why RefuseMalformed fails
	err       error
	rejected  []broker.Rejection
	retried   []int
	retriedAt []time.Time
	rec       access.Record
	legs      []access.Leg
	viewErr   error
	caller    access.Caller
	verifyErr error
	dead      func() error
	prompted  []access.ResourceID
	started   []string
	startErr  error
}

func (f *fake) Submit(_ context.Context, r access.Request) (access.Record, error) {
	f.got = append(f.got, r)
	return access.Record{ID: access.NewRequestID(r.RequestedBy, r.ClientID), Request: r, Outcome: access.Accepted}, f.err
}

func (f *fake) RefuseMalformed(_ context.Context, _ access.Sender, _, _ string, cause error) (access.RequestID, error) {
	f.malformed = append(f.malformed, cause)
	return "ar-x", f.unwritten
}

func (f *fake) Reject(_ context.Context, r broker.Rejection) error {
	f.rejected = append(f.rejected, r)
	return nil
}

func (f *fake) Retry(_ context.Context, _ string, _ []byte, attempts int, at time.Time) error {
	f.retried, f.retriedAt = append(f.retried, attempts), append(f.retriedAt, at)
	return nil
}

func (f *fake) Start(_ context.Context, id access.RequestID, enqueued time.Time) error {
	f.started = append(f.started, string(id)+" "+enqueued.Format(time.RFC3339))
	return f.startErr
}

func (f *fake) View(context.Context, access.RequestID) (access.Situation, error) {
	if f.viewErr != nil {
		return access.Situation{}, f.viewErr
	}
	if f.rec.ID == "" {
		return access.Situation{}, access.Errorf(access.NotFound, "row_missing", "none")
	}
	return access.Situation{Record: f.rec, Legs: f.legs}, nil
}

func (f *fake) Verify(context.Context, *http.Request) (access.Caller, error) {
	if f.verifyErr != nil {
		return access.Caller{}, f.verifyErr
	}
	if f.caller.ObjectID == "" {
		return f.caller, access.Errorf(access.Unauthenticated, "token_missing", "sign in")
	}
	return f.caller, nil
}

func TestAMessageThatNamesAStartOnlyMakesTheBrokerLook(t *testing.T) {
	id := access.NewRequestID(handlers.QueueSender(), "1")
	for name, c := range map[string]struct {
		property string
		err      error
		want     int
	}{
		"a start": {string(id), nil, 1}, "it fails": {string(id), access.Errorf(access.Unavailable, "x", "x"), 1}, "no id": {"x", nil, 0},
	} {
		f := &fake{startErr: c.err}
		// The body is for people: whatever it says, no request is made of it.
		in := messageWith(t, good, "m", map[string]any{broker.StartProperty: c.property})
		if err := request(t, f).Handle(t.Context(), in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(f.started) != c.want || len(f.got)+len(f.malformed)+len(f.rejected)+len(f.retried) != 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func message(t *testing.T, body, id string, attempts string) customhandler.Invocation {
	t.Helper()
	properties := map[string]any{}
	if attempts != "" {
		properties[broker.AttemptsProperty] = json.RawMessage(attempts)
	}
	return messageWith(t, body, id, properties)
}

func messageWith(t *testing.T, body, id string, properties map[string]any) customhandler.Invocation {
	t.Helper()
	meta := map[string]any{"MessageId": `"` + id + `"`, "ApplicationProperties": properties}
	data, err := json.Marshal(map[string]any{"Data": map[string]any{"msg": base64.StdEncoding.EncodeToString([]byte(body))}, "Metadata": meta})
	if err != nil {
		t.Fatal(err)
	}
	in, err := customhandler.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func request(t *testing.T, f *fake) *handlers.RequestAccess {
	t.Helper()
	h, err := handlers.NewRequestAccess(f, f, time.Now, 3, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAMessageBecomesARequestOfItsAssertedRequestor(t *testing.T) {
	f := &fake{}
	if err := request(t, f).Handle(t.Context(), message(t, good, "m-1", "")); err != nil {
		t.Fatal(err)
	}
	if len(f.got) != 1 || f.got[0].ClientID != "m-1" || !f.got[0].Requestor.Asserted || f.got[0].Requestor.Name != "alice@contoso.com" {
		t.Errorf("submitted %+v", f.got)
	}
}

func TestBadMessagesAreRecordedRejectedAndCompleted(t *testing.T) {
	for reason, body := range map[string]string{
		"not_json":            "hello",
		"field_unknown":       strings.Replace(good, "justification", "justifcation", 1),
		"field_twice":         strings.Replace(good, `"justification":"j"`, `"justification":"j","justification":"k"`, 1),
		"requestor_missing":   strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1),
		"source_any":          strings.Replace(good, "203.0.113.7", "0.0.0.0/0", 1),
		"duration_invalid":    strings.Replace(good, "PT1H", "P1M", 1),
		"body_too_large":      `{"justification":"` + strings.Repeat("x", 256<<10) + `"}`,
		"resource_id_invalid": strings.Replace(good, "/virtualMachines/web-1", "/virtualMachines/../web-1", 1),
	} {
		f := &fake{}
		if err := request(t, f).Handle(t.Context(), message(t, body, "m-1", "")); err != nil {
			t.Errorf("%s: %v", reason, err)
			continue
		}
		if len(f.malformed) != 1 || len(f.rejected) != 1 || len(f.got) != 0 {
			t.Errorf("%s: recorded %v, rejected %v, submitted %v", reason, f.malformed, f.rejected, f.got)
			continue
		}
		if r := f.rejected[0]; r.Refusal.Reason != reason || len(r.Excerpt) == 0 || len(r.Excerpt) > broker.MaxExcerpt {
			t.Errorf("rejected with %s and %d bytes, want %s", r.Refusal.Reason, len(r.Excerpt), reason)
		}
	}
}

func TestWhatMaySucceedLaterIsSentAgainAndInTheEndLeftToDie(t *testing.T) {
	cause := access.Errorf(access.Unavailable, "tables_unavailable", "down")
	f := &fake{err: cause}
	h := request(t, f)
	if err := h.Handle(t.Context(), message(t, good, "m-1", "")); err != nil {
		t.Fatal(err)
	}
	if err := h.Handle(t.Context(), message(t, good, "m-1", "1")); err != nil {
		t.Fatal(err)
	}
	if err := h.Handle(t.Context(), message(t, good, "m-1", "2")); !errors.Is(err, cause) {
		t.Errorf("the last attempt gave %v", err)
	}
	if len(f.retried) != 2 || f.retried[0] != 1 || f.retried[1] != 2 || len(f.rejected) != 0 {
		t.Errorf("retried %v, rejected %v", f.retried, f.rejected)
	}
}

func call(t *testing.T, f *fake, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	api, err := handlers.NewAccessAPI(handlers.APIParts{Requests: f, Views: f, Policies: nopolicies{}, Identities: f, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

func TestTheAPITakesTheRequestorFromTheTokenAlone(t *testing.T) {
	mine := strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1)
	f := &fake{}
	if w := call(t, f, "POST", "/api/access-requests", mine); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: %d", w.Code)
	}
	f.caller = access.Caller{Name: "bob@contoso.com", ObjectID: "o", TenantID: "t"}
	if w := call(t, f, "POST", "/api/access-requests", good); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "requestor_not_allowed_here") {
		t.Errorf("in another's name: %d %s", w.Code, w.Body)
	}
	w := call(t, f, "POST", "/api/access-requests", mine)
	if w.Code != http.StatusAccepted || !strings.HasPrefix(w.Header().Get("Location"), "/api/access-requests/ar-") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if r := f.got[0]; r.Requestor.Name != "bob@contoso.com" || r.Requestor.Asserted || r.RequestedBy.Principal != "t/o" {
		t.Errorf("submitted %+v", r)
	}
}

func TestARequestIsShownToItsSenderAndToReadersOfAll(t *testing.T) {
	sender := access.Sender{Channel: access.ChannelHTTP, Principal: "t/o"}
	id := access.NewRequestID(sender, "1")
	f := &fake{rec: access.Record{ID: id, Request: access.Request{RequestedBy: sender}, Outcome: access.Refused}}
	path := "/api/access-requests/" + string(id)
	var unknown string
	for _, c := range []struct {
		caller access.Caller
		want   int
	}{
		{access.Caller{ObjectID: "o", TenantID: "t"}, 200},
		{access.Caller{ObjectID: "x", TenantID: "t", Roles: []access.Role{access.RoleReadAll}}, 200},
		{access.Caller{ObjectID: "x", TenantID: "t"}, 404},
		{access.Caller{ObjectID: "o", TenantID: "u"}, 404},
	} {
		f.caller = c.caller
		w := call(t, f, "GET", path, "")
		if w.Code != c.want {
			t.Errorf("%+v: %d, want %d", c.caller, w.Code, c.want)
		}
		unknown = w.Body.String()
	}
	f.rec = access.Record{}
	if w := call(t, f, "GET", path, ""); w.Body.String() != unknown {
		t.Errorf("not there and not yours differ: %s and %s", w.Body, unknown)
	}
}

func TestErrorsOfOursAreNotShown(t *testing.T) {
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t"}, err: errors.New("secret connection string")}
	w := call(t, f, "POST", "/api/access-requests", strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(t, f, "DELETE", "/api/access-requests", ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("DELETE: %d", w.Code)
	}
}
