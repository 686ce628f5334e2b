package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// settings are the secrets of the sources, one of each while it is rotated.
var settings = map[string]string{
	"PORTCULLIS_SECRET_ITSM": "whsec_" + base64.StdEncoding.EncodeToString([]byte("a key that only the desk has")),
	"PORTCULLIS_SECRET_REPO": "a secret that only GitHub has", "PORTCULLIS_SECRET_REPO_NEXT": "@Microsoft.KeyVault(VaultName=v;SecretName=s)",
}

const (
	dual       = subscriptionPath + "/resourceGroups/prod/virtualMachines/dual-1"
	dualPolicy = `{"scope":"` + machines + `dual-1","ports":[{"number":22,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.0/24","maxRequestAccessDuration":"PT3H"}],
		"requestors":["alice@contoso.com"],"assertedRequestorsFrom":["ticket:itsm","ticket:repo"],"baseline":false,
		"ticket":{"sources":["itsm","repo"],"states":["approved"],"assignedToRequestor":true,"maxEventAge":"PT1H"}}`
)

// sender is a ticketing system that sends to a source.
type sender struct {
	t                    *testing.T
	source, kind, secret string
}

// payload gives an example's payload with changes, for this test's machine.
func (s sender) payload(name string, change func(map[string]any)) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs/examples/sources/payloads", name))
	if err != nil {
		s.t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(data), "web-1", "dual-1")), &doc); err != nil {
		s.t.Fatal(err)
	}
	change(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// sign gives the headers of a delivery.
func (s sender) sign(id string, at time.Time, body string) map[string]string {
	key := []byte(s.secret)
	text := body
	if s.kind == "standard" {
		key, _ = base64.StdEncoding.DecodeString(strings.TrimPrefix(s.secret, "whsec_")) // it is ours
		text = fmt.Sprintf("%s.%d.%s", id, at.Unix(), body)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	if s.kind == "standard" {
		return map[string]string{"webhook-id": id, "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": "v1,bm90IHRoaXMgb25l v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}
	}
	return map[string]string{"X-GitHub-Event": "issues", "X-GitHub-Delivery": id, "X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil))}
}

// post delivers, and gives the status, the event and what became of it, or the
// reason of the refusal.
func (s sender) post(path string, headers map[string]string, body string) (status int, event, outcome string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, os.Getenv("FUNCTIONS_ENDPOINT")+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var doc struct{ Event, Status, Reason string }
	if json.Unmarshal(data, &doc) != nil || doc.Status == "" { // a problem's status is a number
		var p struct{ Reason string }
		_ = json.Unmarshal(data, &p)
		return res.StatusCode, "", p.Reason
	}
	return res.StatusCode, doc.Event, doc.Status
}

func (s sender) send(id, body string) (int, string, string) {
	s.t.Helper()
	return s.post("/webhooks/"+s.source, s.sign(id, time.Now(), body), body)
}

// setUp stores the example's source under the name, and a policy that takes its
// word.
func setUp(t *testing.T, kind, source string) sender {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs/examples/sources", kind+".json"))
	if err != nil {
		t.Fatal(err)
	}
	setting := "PORTCULLIS_SECRET_" + strings.ToUpper(source)
	named := setting
	if kind == "github" {
		named += `", "` + setting + `_NEXT`
	}
	text := strings.NewReplacer(`"name": "`+kind+`"`, `"name": "`+source+`"`, "PORTCULLIS_SECRET_"+strings.ToUpper(kind), named, "web-1", "dual-1").Replace(string(data))
	admin := person(t, "admin@contoso.com", "Portcullis.Administer")
	code, out, said := admin("source", "apply", "--yes", "-f", file(t, text))
	if code != 0 || strings.Contains(out, setting+" is not set") || strings.Contains(out, "could not follow") != (kind == "github") {
		t.Fatalf("%d %s%s", code, out, said)
	}
	if code, out, said = admin("source", "list"); code != 0 || !strings.Contains(out, setting+" set") {
		t.Errorf("%d %s%s", code, out, said)
	}
	if code, out, said = admin("source", "test", source); code != 0 || !strings.Contains(out, "request  for alice@contoso.com") {
		t.Errorf("%d %s%s", code, out, said)
	}
	if code, out, said = admin("policy", "apply", "--yes", "-f", file(t, dualPolicy)); code != 0 {
		t.Fatalf("%d %s%s", code, out, said)
	}
	return sender{t, source, kind, settings[setting]}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// approved and ended are payloads of the kind about the ticket, of now.
func (s sender) approved(key int) string {
	now := time.Now()
	if s.kind == "github" {
		return s.payload("github-approved.json", func(d map[string]any) {
			d["issue"].(map[string]any)["number"], d["issue"].(map[string]any)["updated_at"] = key, stamp(now)
		})
	}
	return s.payload("standard-approved.json", func(d map[string]any) {
		data := d["data"].(map[string]any)
		d["timestamp"], data["id"] = stamp(now), fmt.Sprint(key)
		data["window"] = map[string]any{"start": stamp(now.Truncate(time.Second)), "end": stamp(now.Add(3 * time.Hour))}
	})
}

func (s sender) ended(key int) string {
	if s.kind == "github" {
		return s.payload("github-closed.json", func(d map[string]any) {
			d["issue"].(map[string]any)["number"], d["issue"].(map[string]any)["updated_at"] = key, stamp(time.Now())
		})
	}
	return s.payload("standard-cancelled.json", func(d map[string]any) {
		d["timestamp"], d["data"].(map[string]any)["id"] = stamp(time.Now()), fmt.Sprint(key)
	})
}

// becomes waits until the request that the event made says all of the texts. The
// handler may be dead when it is asked.
func (s sender) becomes(event string, texts ...string) {
	s.t.Helper()
	token, err := w.token(s.t.Context(), "auditor@contoso.com", "--role", "Access.ReadAll")
	if err != nil {
		s.t.Fatal(err)
	}
	id := access.NewRequestID(access.Sender{Channel: access.ChannelTicket, Principal: s.source}, event)
	eventually(s.t, func() string {
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, os.Getenv("FUNCTIONS_ENDPOINT")+"/api/access-requests/"+string(id), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = res.Body.Close() }()
		got, err := io.ReadAll(res.Body)
		if err != nil {
			return err.Error()
		}
		for _, text := range texts {
			if !strings.Contains(string(got), text) {
				return fmt.Sprintf("request %s lacks %s: %d %s", id, text, res.StatusCode, got)
			}
		}
		return ""
	})
}

func (s sender) taken(id, body, want string) string {
	s.t.Helper()
	status, event, outcome := s.send(id, body)
	if status != http.StatusAccepted || outcome != want {
		s.t.Fatalf("%s: %d %s", id, status, outcome)
	}
	return event
}

func TestATicketOpensADoorAndItsEndShutsIt(t *testing.T) {
	for key, kind := range map[int]string{7001: "standard", 7002: "github"} {
		t.Run(kind, func(t *testing.T) {
			s := setUp(t, kind, map[string]string{"standard": "itsm", "github": "repo"}[kind])
			body := s.approved(key)
			event := s.taken("d-1", body, "accepted")
			s.becomes(event, `"Initiated"`, fmt.Sprintf(`"ticket": "%s:%d"`, s.source, key))
			again := "d-1" // signed: a repeat has the same
			if kind == "github" {
				again = "d-2" // not signed: a captured delivery may come under another
			}
			if repeated := s.taken(again, body, "repeated"); repeated != event {
				t.Errorf("the repeat is event %s, not %s", repeated, event)
			}
			s.taken("d-3", s.ended(key), "accepted")
			s.becomes(event, `"Revoked"`, `"TicketEnded"`, `"endedAtUtc"`)
			w.settled(t)
			// It is not opened again by what was said before.
			s.taken(again, body, "repeated")
		})
	}
}

func TestAHandlerThatDiesAtATicketsEventHasLostNothing(t *testing.T) {
	s := setUp(t, "standard", "itsm")
	// Before anything is done, and a little into it.
	kill := func() {
		var rules []fault.Rule
		for _, after := range []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond} {
			rules = append(rules, fault.Rule{On: "invoke RequestAccess", Do: fault.Kill, Delay: fault.Duration(after), Times: 1})
		}
		if err := w.stack.Host.Faults().Set(fault.Plan{Rules: rules}); err != nil {
			t.Fatal(err)
		}
	}
	struck := func() {
		_, counts := w.stack.Host.Faults().State()
		if len(counts) != 3 || counts[0].Struck != 1 {
			t.Errorf("the handler was not killed: %+v", counts)
		}
	}
	kill()
	event := s.taken("k-1", s.approved(7003), "accepted")
	s.becomes(event, `"Initiated"`)
	struck()
	kill()
	s.taken("k-2", s.ended(7003), "accepted")
	s.becomes(event, `"Revoked"`, `"TicketEnded"`, `"endedAtUtc"`)
	struck()
	if err := w.stack.Host.Faults().Set(fault.Plan{}); err != nil {
		t.Fatal(err)
	}
	w.settled(t)
}

func TestBadDeliveries(t *testing.T) {
	s, hub := setUp(t, "standard", "itsm"), setUp(t, "github", "repo")
	before := w.stack.ResourceManager.Stats().NSGWrites
	now, body := time.Now(), s.approved(7004)
	with := func(h map[string]string, name, value string) map[string]string {
		h[name] = value
		return h
	}
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	huge := strings.Repeat("x", 1<<20+1)
	for name, c := range map[string]struct {
		path, body, reason string
		headers            map[string]string
		status             int
	}{
		"forged":                         {"/webhooks/itsm", body, "signature_invalid", with(s.sign("b-1", now, body), "webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))), 401},
		"unsigned":                       {"/webhooks/itsm", body, "signature_invalid", nil, 401},
		"of no source":                   {"/webhooks/nobody", body, "signature_invalid", s.sign("b-1", now, body), 401},
		"cut short":                      {"/webhooks/itsm", body[:len(body)-1], "signature_invalid", s.sign("b-1", now, body), 401},
		"under another id":               {"/webhooks/itsm", body, "signature_invalid", with(s.sign("b-1", now, body), "webhook-id", "b-2"), 401},
		"later than it was signed":       {"/webhooks/itsm", body, "signature_invalid", with(s.sign("b-1", now, body), "webhook-timestamp", strconv.FormatInt(now.Unix()+60, 10)), 401},
		"stale":                          {"/webhooks/itsm", body, "delivery_stale", s.sign("b-1", now.Add(-10*time.Minute), body), 401},
		"signed for another source":      {"/webhooks/repo", body, "signature_invalid", s.sign("b-1", now, body), 401},
		"too large":                      {"/webhooks/itsm", huge, "body_too_large", s.sign("b-1", now, huge), 413},
		"too deep":                       {"/webhooks/itsm", deep, "payload_too_deep", s.sign("b-1", now, deep), 400},
		"not JSON":                       {"/webhooks/itsm", "let me in", "payload_invalid", s.sign("b-1", now, "let me in"), 400},
		"a field that is not there":      {"/webhooks/itsm", `{"type":"change.approved"}`, "mapping_failed", s.sign("b-1", now, `{"type":"change.approved"}`), 400},
		"with a secret not resolved yet": {"/webhooks/repo", body, "secret_missing", sender{t, "repo", "github", settings["PORTCULLIS_SECRET_REPO_NEXT"]}.sign("b-1", now, body), 503},
	} {
		status, _, reason := s.post(c.path, c.headers, c.body)
		if status != c.status || reason != c.reason {
			t.Errorf("%s: %d %s", name, status, reason)
		}
	}
	// An old event, sent again under a signature of today, asks for nothing.
	old := hub.payload("github-approved.json", func(map[string]any) {})
	if status, _, reason := hub.send("b-3", old); status != http.StatusUnauthorized || reason != "delivery_stale" {
		t.Errorf("an old body: %d %s", status, reason)
	}
	// One that is none of ours is answered, so that nobody sends it for ever.
	hub.taken("b-4", `{"zen":"Keep it logically awesome."}`, "ignored")
	w.settled(t)
	if n := w.stack.ResourceManager.Stats().NSGWrites - before; n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestASourceThatIsRemovedIsNotHeardAnyMore(t *testing.T) {
	s := setUp(t, "standard", "itsm")
	s.taken("r-1", s.ended(7005), "accepted")
	if code, out, said := person(t, "admin@contoso.com", "Portcullis.Administer")("source", "delete", "itsm", "--yes"); code != 0 {
		t.Fatalf("%d %s%s", code, out, said)
	}
	if status, _, reason := s.send("r-2", s.ended(7005)); status != http.StatusUnauthorized || reason != "signature_invalid" {
		t.Errorf("%d %s", status, reason)
	}
	w.settled(t)
}

// TestNoSecretIsWrittenAnywhere looks for the secrets in every row of every table
// and in all that the handler and its host said; it comes after the other tests of
// this file.
func TestNoSecretIsWrittenAnywhere(t *testing.T) {
	service, err := aztables.NewServiceClientFromConnectionString(os.Getenv("AZURE_STORAGE_CONNECTION_STRING"), nil)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{"the log": w.log.String()}
	tables := service.NewListTablesPager(nil)
	for tables.More() {
		page, err := tables.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range page.Tables {
			var text strings.Builder
			rows := service.NewClient(*table.Name).NewListEntitiesPager(nil)
			for rows.More() {
				page, err := rows.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Entities {
					text.Write(e)
				}
			}
			places["the table "+*table.Name] = text.String()
		}
	}
	for _, name := range []string{"the table sources", "the table tickets", "the log"} {
		if len(places[name]) == 0 {
			t.Errorf("nothing is in %s", name)
		}
	}
	for place, text := range places {
		for name, secret := range settings {
			if strings.HasPrefix(secret, "@") {
				continue
			}
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			for _, form := range []string{secret, strings.TrimPrefix(secret, "whsec_"), string(raw), base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))} {
				if form != "" && strings.Contains(text, form) {
					t.Errorf("%s holds the secret of %s", place, name)
				}
			}
		}
	}
}
