package handlers_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

const (
	hookSecret  = "a secret that nobody may see"
	hookPayload = `{"ours":true,"n":7,"at":"2026-11-24T09:00:00Z","state":"approved"}`
	hookSource  = `{"name":"desk","kind":"github","secrets":["PORTCULLIS_SECRET_OLD","PORTCULLIS_SECRET_DESK"],
		"mapping":{"when":"payload.ours","ticket":"payload.n","at":"payload.at","state":"payload.state"},"sample":` + hookPayload + `}`
)

// ticketing is the sources and what takes their events.
type ticketing struct {
	secrets  map[string]string
	sourceEr error
	err      error
	receipt  broker.Receipt
	got      []access.TicketEvent
	asked    int
	log      bytes.Buffer
	now      time.Time
}

func newTicketing() *ticketing {
	return &ticketing{
		secrets: map[string]string{"PORTCULLIS_SECRET_DESK": hookSecret, "PORTCULLIS_SECRET_OLD": "the secret of last year"}, receipt: broker.TicketAccepted,
		now: time.Date(2026, 11, 24, 9, 1, 0, 0, time.UTC),
	}
}

func (f *ticketing) Source(ctx context.Context, name string) (ticket.Source, error) {
	f.asked++
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > 5*time.Second {
		return ticket.Source{}, errors.New("nothing bounds the answer")
	}
	if name != "desk" || f.sourceEr != nil {
		if f.sourceEr != nil {
			return ticket.Source{}, f.sourceEr
		}
		return ticket.Source{}, access.Errorf(access.NotFound, "row_missing", "no such source")
	}
	return ticket.DecodeSource([]byte(hookSource))
}

func (f *ticketing) Receive(_ context.Context, e access.TicketEvent) (broker.Receipt, error) {
	f.got = append(f.got, e)
	return f.receipt, f.err
}

func (f *ticketing) deliver(t *testing.T, method, path string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := handlers.NewTicketWebhook(handlers.WebhookParts{Refusals: refusals(t),
		Sources: f, Tickets: f, Clock: func() time.Time { return f.now }, Log: slog.New(slog.NewJSONHandler(&f.log, nil)),
		Secrets: func(names []string) (out []string) {
			for _, n := range names {
				out = append(out, f.secrets[n])
			}
			return out
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, body)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, r)
	return w
}

func hubSignature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func (f *ticketing) signed(t *testing.T, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.deliver(t, "POST", "/webhooks/desk", strings.NewReader(body), "X-Hub-Signature-256", hubSignature(hookSecret, body))
}

func TestAVerifiedDeliveryIsRecordedBeforeItIsAnswered(t *testing.T) {
	for body, want := range map[string]string{hookPayload: "accepted", strings.Replace(hookPayload, "true", "false", 1): "ignored"} {
		f := newTicketing()
		w := f.signed(t, body)
		var said struct{ Event, Status string }
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusAccepted || said.Status != want || !strings.HasPrefix(said.Event, "te-") {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if (len(f.got) == 1) != (want == "accepted") {
			t.Errorf("%s: received %+v", want, f.got)
		}
		if want == "accepted" && (f.got[0].ID != said.Event || f.got[0].Ticket != (access.TicketID{Source: "desk", Key: "7"}) || f.got[0].State != "approved" || !f.got[0].ReceivedAt.Equal(f.now)) {
			t.Errorf("%+v", f.got[0])
		}
	}
	f := newTicketing()
	f.receipt = broker.TicketRepeated
	if w := f.signed(t, hookPayload); w.Code != http.StatusAccepted || !strings.Contains(w.Body.String(), `"repeated"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// A secret is rotated: the old one counts while it is named.
	if w := f.deliver(t, "POST", "/webhooks/desk", strings.NewReader(hookPayload), "X-Hub-Signature-256", hubSignature("the secret of last year", hookPayload)); w.Code != http.StatusAccepted {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// To a stranger every refusal is the same, to the letter.
func TestAStrangerLearnsNothing(t *testing.T) {
	right := hubSignature(hookSecret, hookPayload)
	answers := map[string]string{}
	for name, c := range map[string]struct {
		path, body string
		headers    []string
	}{
		"no such source":                 {"/webhooks/none", hookPayload, []string{"X-Hub-Signature-256", right}},
		"no such source, no signature":   {"/webhooks/none", hookPayload, nil},
		"no name":                        {"/webhooks/", hookPayload, nil},
		"no name that a source may have": {"/webhooks/..%2fdesk", hookPayload, []string{"X-Hub-Signature-256", right}},
		"a longer path":                  {"/webhooks/desk/x", hookPayload, []string{"X-Hub-Signature-256", right}},
		"another case":                   {"/webhooks/DESK", hookPayload, []string{"X-Hub-Signature-256", right}},
		"no signature":                   {"/webhooks/desk", hookPayload, nil},
		"no signature that it knows":     {"/webhooks/desk", hookPayload, []string{"X-Hub-Signature", right}},
		"a forged signature":             {"/webhooks/desk", hookPayload, []string{"X-Hub-Signature-256", hubSignature("guess", hookPayload)}},
		"of another body":                {"/webhooks/desk", hookPayload + " ", []string{"X-Hub-Signature-256", right}},
		"two signatures":                 {"/webhooks/desk", hookPayload, []string{"X-Hub-Signature-256", right, "X-Hub-Signature-256", right}},
		"not JSON":                       {"/webhooks/desk", "{", nil},
		"too deep":                       {"/webhooks/desk", strings.Repeat("[", 10_000), nil},
	} {
		f := newTicketing()
		w := f.deliver(t, "POST", c.path, strings.NewReader(c.body), c.headers...)
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" || len(f.got) != 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		said := strings.ReplaceAll(w.Body.String(), c.path, "PATH")
		if i := strings.Index(said, `"instance"`); i >= 0 {
			said = said[:i] + said[i+strings.Index(said[i:], "\n"):]
		}
		answers[said] = name
	}
	if len(answers) != 1 {
		t.Errorf("%d answers: %v", len(answers), answers)
	}
}

func TestWhoeverSignedIsToldWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		body, reason string
		status       int
	}{
		"not JSON":              {"{", "payload_invalid", 400},
		"10,000 levels":         {strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), "payload_too_deep", 400},
		"a field that it lacks": {`{"ours":true,"at":"2026-11-24T09:00:00Z"}`, "mapping_failed", 400},
		"stale":                 {strings.Replace(hookPayload, "T09", "T07", 1), "delivery_stale", 401},
		"of tomorrow":           {strings.Replace(hookPayload, "-24T", "-25T", 1), "event_from_future", 400},
	} {
		f := newTicketing()
		if w := f.signed(t, c.body); w.Code != c.status || problemOf(t, w).Reason != c.reason || len(f.got) != 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	f := newTicketing()
	f.err = access.Errorf(access.FailedPrecondition, "id_conflict", "an event of other content came under this id before")
	if w := f.signed(t, hookPayload); w.Code != http.StatusConflict || problemOf(t, w).Reason != "id_conflict" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestADeliveryIsBoundedBeforeAnythingIsAskedOfIt(t *testing.T) {
	for path, asked := range map[string]int{"/webhooks/desk": 0, "/webhooks/none": 0} {
		f := newTicketing()
		w := f.deliver(t, "POST", path, strings.NewReader(strings.Repeat("x", ticket.MaxBody+1)))
		if w.Code != http.StatusRequestEntityTooLarge || problemOf(t, w).Reason != "body_too_large" || f.asked != asked {
			t.Errorf("%s: %d %s, asked %d", path, w.Code, w.Body, f.asked)
		}
	}
	f := newTicketing()
	if w := f.deliver(t, "POST", "/webhooks/desk", iotest.ErrReader(io.ErrUnexpectedEOF)); w.Code != http.StatusBadRequest || problemOf(t, w).Reason != "body_unreadable" || f.asked != 0 {
		t.Errorf("cut short: %d %s", w.Code, w.Body)
	}
	if w := f.deliver(t, "GET", "/webhooks/desk", nil); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d", w.Code)
	}
	for _, path := range []string{"/webhooks", "/api/webhooks/desk", "/%77ebhooks/desk"} {
		if w := f.deliver(t, "POST", path, strings.NewReader("")); w.Code != http.StatusTeapot {
			t.Errorf("%s is taken: %d", path, w.Code)
		}
	}
}

func TestWhatMayPassByIsToBeSentAgain(t *testing.T) {
	for name, spoil := range map[string]func(*ticketing){
		"the tables are down": func(f *ticketing) {
			f.sourceEr = access.Errorf(access.Unavailable, "tables_unavailable", "down "+hookSecret)
		},
		"it cannot be recorded": func(f *ticketing) {
			f.err = access.Errorf(access.Unavailable, "tables_unavailable", "down "+hookSecret)
		},
		"a secret is not set":      func(f *ticketing) { clear(f.secrets) },
		"a reference is not found": func(f *ticketing) { f.secrets["PORTCULLIS_SECRET_DESK"] = "@Microsoft.KeyVault(x)" },
	} {
		f := newTicketing()
		spoil(f)
		w := f.signed(t, hookPayload)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), hookSecret) || strings.Contains(w.Body.String(), "PORTCULLIS_SECRET") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	f := newTicketing()
	f.signed(t, hookPayload)
	f.signed(t, "{")
	f.deliver(t, "POST", "/webhooks/desk", strings.NewReader(hookPayload), "X-Hub-Signature-256", hubSignature("guess", hookPayload))
	if said := f.log.String(); !strings.Contains(said, `"reason":"payload_invalid"`) || strings.Contains(said, hookSecret) || strings.Contains(said, hubSignature(hookSecret, hookPayload)[7:]) {
		t.Errorf("%s", said)
	}
}
