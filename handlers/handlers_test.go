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
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
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
	again     []broker.RequestMessage
	rec       access.Record
	by        access.Caller
	asks      []broker.Ask
	id        access.RequestID
	filter    broker.Filter
	extension broker.Extension
	back      broker.GiveBack
	caller    access.Caller
	verifyErr error
	dead      func() error
	prompted  []access.ResourceID
	started   []string
	startErr  error
	worked    []string
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

func (f *fake) Retry(_ context.Context, m broker.RequestMessage, at time.Time) error {
	f.again = append(f.again, m)
	f.retried, f.retriedAt = append(f.retried, m.Attempts), append(f.retriedAt, at)
	return nil
}

func (f *fake) Start(_ context.Context, id access.RequestID, enqueued time.Time) error {
	f.started = append(f.started, string(id)+" "+enqueued.Format(time.RFC3339))
	return f.startErr
}

func (f *fake) Work(_ context.Context, id string) error {
	f.worked = append(f.worked, id)
	return f.startErr
}

// deskFake is the fake as a desk.
type deskFake struct{ *fake }

func (f deskFake) Request(_ context.Context, by access.Caller, ask broker.Ask) (access.Situation, error) {
	f.by, f.asks = by, append(f.asks, ask)
	return access.Situation{Record: access.Record{ID: access.NewRequestID(by.Sender(), ask.ClientID), Outcome: access.Accepted}}, f.err
}

func (f deskFake) View(_ context.Context, by access.Caller, id access.RequestID) (access.Situation, error) {
	f.by, f.id = by, id
	return access.Situation{Record: f.rec}, f.err
}

func (f deskFake) List(_ context.Context, by access.Caller, filter broker.Filter) (broker.Page, error) {
	f.by, f.filter = by, filter
	return broker.Page{Items: []access.Situation{{Record: f.rec}}, Next: "more"}, f.err
}

func (f deskFake) EventsOf(_ context.Context, by access.Caller, id access.RequestID) ([]access.Event, error) {
	f.by, f.id = by, id
	return []access.Event{{Kind: access.EventRequested, Subject: string(id)}}, f.err
}

func (f deskFake) Extend(_ context.Context, by access.Caller, id access.RequestID, e broker.Extension) (access.Situation, error) {
	f.by, f.id, f.extension = by, id, e
	return access.Situation{Record: f.rec}, f.err
}

func (f deskFake) Revoke(_ context.Context, by access.Caller, id access.RequestID, g broker.GiveBack) (access.Situation, error) {
	f.by, f.id, f.back = by, id, g
	return access.Situation{Record: f.rec}, f.err
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

func TestAMessageThatNamesATicketsEventOnlyMakesTheBrokerLook(t *testing.T) {
	for _, err := range []error{nil, access.Errorf(access.Unavailable, "x", "x")} {
		f := &fake{startErr: err}
		// The body is for people: whatever it says, no request is made of it.
		in := messageWith(t, good, "m", map[string]any{broker.TicketEventProperty: "te-1"})
		if err := request(t, f).Handle(t.Context(), in); err != nil {
			t.Error(err)
		}
		if len(f.worked) != 1 || f.worked[0] != "te-1" || len(f.got)+len(f.malformed)+len(f.rejected)+len(f.retried)+len(f.started) != 0 {
			t.Errorf("%+v", f)
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
	h, err := handlers.NewRequestAccess(f, f, f, time.Now, 3, slog.New(slog.DiscardHandler))
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

func call(t *testing.T, f *fake, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{f}, Changes: deskFake{f}, Machines: nomachines{}, Policies: nopolicies{}, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: noaudits{}, Identities: f, Refusals: refusals(t), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

func TestWhoAsksIsWhoTheTokenNames(t *testing.T) {
	mine := strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1)
	f := &fake{}
	if w := call(t, f, "POST", "/api/access-requests", mine); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: %d", w.Code)
	}
	f.caller = access.Caller{Name: "bob@contoso.com", ObjectID: "o", TenantID: "t"}
	w := call(t, f, "POST", "/api/access-requests", mine)
	if w.Code != http.StatusAccepted || !strings.HasPrefix(w.Header().Get("Location"), "/api/access-requests/ar-") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if f.by.Name != "bob@contoso.com" || f.asks[0].Requestor != "" {
		t.Errorf("%+v asks %+v", f.by, f.asks[0])
	}
	// Whether somebody may ask in another's name is not decided here.
	if call(t, f, "POST", "/api/access-requests", good); f.by.Name != "bob@contoso.com" || f.asks[1].Requestor != "alice@contoso.com" {
		t.Errorf("%+v asks %+v", f.by, f.asks[1])
	}
}

func TestRequestsAreNamedByTheirKeyOrBySenderAndID(t *testing.T) {
	id := access.NewRequestID(access.Sender{Channel: access.ChannelHTTP, Principal: "t/o"}, "1")
	for path, want := range map[string]access.RequestID{
		string(id): id, "1?channel=http": id, "1?channel=queue": access.NewRequestID(handlers.QueueSender(), "1"),
		"1": "", "1?channel=x": "", "ar-UPPER": "",
	} {
		f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t"}}
		w := call(t, f, "GET", "/api/access-requests/"+path, "")
		if (w.Code == http.StatusOK) != (want != "") || f.id != want || want == "" && problemOf(t, w).Reason != "request_unknown" {
			t.Errorf("%s: %d %s", path, w.Code, f.id)
		}
	}
}

func TestAListIsFilteredAndGoesOn(t *testing.T) {
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t"}}
	vm := "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod/providers/microsoft.compute/virtualmachines/web-1"
	w := call(t, f, "GET", "/api/access-requests?virtualMachine="+vm+"&requestor=alice&status=Initiated&from=2026-11-24T09:00:00Z&to=2026-11-24T10:00:00Z&pageSize=7&continuationToken=x", "")
	want := broker.Filter{
		VM: access.ResourceID(vm), Requestor: "alice", Status: "Initiated", PageSize: 7, Token: "x",
		From: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC),
	}
	if w.Code != http.StatusOK || f.filter != want {
		t.Errorf("%d %+v", w.Code, f.filter)
	}
	var page struct {
		Items    []json.RawMessage
		NextLink string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Items) != 1 || !strings.Contains(page.NextLink, "continuationToken=more") || !strings.Contains(page.NextLink, "pageSize=7") {
		t.Errorf("%+v %v", page, err)
	}
	for _, bad := range []string{"pageSize=0", "pageSize=201", "pageSize=x", "from=yesterday", "virtualMachine=web-1"} {
		if w := call(t, f, "GET", "/api/access-requests?"+bad, ""); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
}

func TestExtendAndGiveBack(t *testing.T) {
	id := access.NewRequestID(access.Sender{Channel: access.ChannelHTTP, Principal: "t/o"}, "1")
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t"}}
	at := "/api/access-requests/" + string(id)
	if w := call(t, f, "POST", at+"/extend", `{"duration":"PT1H","justification":"more"}`); w.Code != http.StatusAccepted || f.id != id || f.extension.Duration != time.Hour || f.extension.Justification != "more" || f.extension.ClientID == "" {
		t.Errorf("%d %s %+v", w.Code, w.Body, f.extension)
	}
	if w := call(t, f, "POST", at+"/revoke", `{"reason":"done","grants":[0,2]}`); w.Code != http.StatusAccepted || f.back.Reason != "done" || len(f.back.Grants) != 2 {
		t.Errorf("%d %s %+v", w.Code, w.Body, f.back)
	}
	if w := call(t, f, "POST", at+"/revoke", ""); w.Code != http.StatusAccepted || f.back.Grants != nil {
		t.Errorf("%d %s %+v", w.Code, w.Body, f.back)
	}
	for path, body := range map[string]string{
		"/extend": `{}`, "/extend?1": `{"duration":"PT1H","endTimeUtc":"2026-11-24T10:00:00Z"}`, "/extend?2": `{"duration":"PT1H","hours":1}`,
		"/revoke": `{"grants":[]}`, "/revoke?1": `{"grant":0}`, "/revoke?2": `[]`,
	} {
		f.back, f.extension = broker.GiveBack{}, broker.Extension{}
		if w := call(t, f, "POST", at+path, body); w.Code != http.StatusBadRequest || f.extension.ClientID != "" {
			t.Errorf("%s %s: %d", path, body, w.Code)
		}
	}
	if w := call(t, f, "GET", at+"/events", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"Requested"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestASourceLeftOutIsTheCallersAddress(t *testing.T) {
	mine := strings.Replace(strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1), `"allowedSourceAddressPrefix":"203.0.113.7",`, "", 1)
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t"}}
	if w := call(t, f, "POST", "/api/access-requests", mine); w.Code != http.StatusBadRequest || problemOf(t, w).Reason != "source_missing" {
		t.Errorf("no address known: %d %s", w.Code, w.Body)
	}
	if w := call(t, f, "POST", "/api/access-requests", mine, "X-Forwarded-For", "6.6.6.6, 203.0.113.9:50000"); w.Code != http.StatusAccepted || f.asks[0].Ports[0].Source.String() != "203.0.113.9/32" {
		t.Errorf("%d %s %+v", w.Code, w.Body, f.asks)
	}
}

func TestErrorsOfOursAreNotShown(t *testing.T) {
	f := &fake{caller: access.Caller{ObjectID: "o", TenantID: "t"}, err: errors.New("secret connection string")}
	w := call(t, f, "POST", "/api/access-requests", strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(t, f, "DELETE", "/api/access-requests", ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST, GET, HEAD" {
		t.Errorf("DELETE: %d", w.Code)
	}
}

// refusals counts for nobody.
func refusals(t *testing.T) *handlers.Refusals {
	t.Helper()
	r, err := handlers.NewRefusals(&brokertest.Meter{}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
