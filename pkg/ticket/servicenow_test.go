package ticket_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// instance stands for a ServiceNow instance: as much of the Glide API as the
// business rule uses, over the same JavaScript.
type instance struct {
	fields     map[string]string
	properties map[string]string
	password   string
	now        time.Time
	event      map[string]any // of the script action; nil for the business rule
	status     int            // that the endpoint answers; 0 throws

	sent      []ticket.Delivery
	log       []string
	scheduled []string      // parm1 of each event
	delay     time.Duration // of the last
}

func newInstance() *instance {
	return &instance{
		fields: map[string]string{
			"sys_id": "46e18c0fa9fe19810066a0083f76bd56", "number": "CHG0030192", "state": "-1", "sys_mod_count": "7", "sys_updated_on": "2026-11-24 09:58:12",
			"sys_updated_by": "bob@contoso.com", "start_date": "2026-11-24 20:00:00", "end_date": "2026-11-24 23:00:00",
			"short_description": "Patch the web servers’ kernel", "u_port": "22", "u_source_address": "203.0.113.7",
			"u_virtual_machine": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1",
		},
		properties: map[string]string{"portcullis.webhook.url": "https://portcullis.example/webhooks/servicenow", "portcullis.webhook.credential": "c1"},
		password:   standardSecret, now: received, status: 202,
	}
}

const glide = `
var gs = {
  getProperty: function (n) { return property(n); },
  error: function (m) { log('error ' + m); }, warn: function (m) { log('warn ' + m); }, info: function (m) { log('info ' + m); },
  eventQueueScheduled: function (name, record, parm1, parm2, at) { schedule(name, parm1, at.getNumericValue()); }
};
function GlideDateTime() { this.ms = now(); }
GlideDateTime.prototype.getNumericValue = function () { return this.ms; };
GlideDateTime.prototype.addSeconds = function (n) { this.ms += n * 1000; };
function GlideCertificateEncryption() {}
GlideCertificateEncryption.prototype.generateMac = function (key, algorithm, data) { return mac(key, algorithm, data); };
var sn_cc = { StandardCredentialsProvider: function () {
  this.getCredentialByID = function (id) { return id === 'c1' ? { getAttribute: function (n) { return n === 'password' ? password : null; } } : null; };
} };
var sn_ws = { RESTMessageV2: function () {
  var m = { headers: {} };
  this.setEndpoint = function (v) { m.url = v; }; this.setHttpMethod = function (v) { m.method = v; }; this.setHttpTimeout = function (v) {};
  this.setRequestHeader = function (n, v) { m.headers[n] = v; }; this.setRequestBody = function (v) { m.body = v; };
  this.execute = function () { var s = post(m.method, m.url, m.headers, m.body); return { getStatusCode: function () { return s; } }; };
} };
var current = { getValue: function (n) { return field(n); }, assigned_to: { email: field('assigned_to') } };
`

// run executes the script once.
func (i *instance) run(t *testing.T) {
	t.Helper()
	vm := goja.New()
	for name, value := range map[string]any{
		"property": func(n string) any { return orNull(i.properties[n]) },
		"field":    func(n string) any { return orNull(i.fields[n]) },
		"password": i.password,
		"now":      func() int64 { return i.now.UnixMilli() },
		"log":      func(m string) { i.log = append(i.log, m) },
		"schedule": func(name, parm1 string, at int64) {
			if name == "portcullis.retry" {
				i.scheduled, i.delay = append(i.scheduled, parm1), time.UnixMilli(at).Sub(i.now)
			}
		},
		"mac": func(key, algorithm, data string) string {
			raw, err := base64.StdEncoding.DecodeString(key)
			if err != nil || algorithm != "HmacSHA256" {
				panic("no such key or algorithm")
			}
			h := hmac.New(sha256.New, raw)
			h.Write([]byte(data))
			return base64.StdEncoding.EncodeToString(h.Sum(nil))
		},
		"post": func(method, url string, headers map[string]string, body string) int {
			if i.status == 0 {
				panic(vm.ToValue("connection reset while sending " + i.password))
			}
			h := http.Header{}
			for n, v := range headers {
				h.Set(n, v)
			}
			if method != "POST" || url != i.properties["portcullis.webhook.url"] || strings.Contains(body, "${") {
				t.Errorf("%s %s %s", method, url, body)
			}
			i.sent = append(i.sent, ticket.Delivery{Header: h, Body: []byte(body), ReceivedAt: i.now})
			return i.status
		},
	} {
		if err := vm.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if i.event != nil {
		if err := vm.Set("event", i.event); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := vm.RunString(glide); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.RunString(string(read(t, "servicenow-business-rule.js"))); err != nil {
		t.Fatal(err)
	}
	for _, line := range i.log {
		if strings.Contains(line, "whsec_M") || strings.Contains(line, standardSecret[6:]) {
			t.Errorf("the log holds the secret: %s", line)
		}
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func TestTheBusinessRuleSendsWhatIsVerifiedAndMapped(t *testing.T) {
	i := newInstance()
	i.fields["assigned_to"] = "alice@contoso.com"
	i.run(t)
	if len(i.sent) != 1 || len(i.log) != 0 || len(i.scheduled) != 0 {
		t.Fatalf("%d sent, %v, %v", len(i.sent), i.log, i.scheduled)
	}
	s := example(t, "servicenow")
	v, err := s.Verify(i.sent[0], []string{standardSecret})
	if err != nil {
		t.Fatal(err)
	}
	e, ours, err := s.Map(context.Background(), v, received)
	want := exampleEvents(t)["servicenow-implement"]
	if err != nil || !ours || e.Ticket != want.Ticket || e.TicketFacts != want.TicketFacts || e.Actor != want.Actor || e.Ask == nil ||
		e.Ask.Justification != want.Ask.Justification || !e.Ask.Ports[0].EndTime.Equal(want.Ask.Ports[0].EndTime) || !e.At.Equal(want.At) {
		t.Errorf("%+v, %v, %v", e, ours, err)
	}
}

func TestTheBusinessRuleTriesAgainUnderTheSameID(t *testing.T) {
	i := newInstance()
	s := example(t, "servicenow")
	i.status = 503
	i.run(t)
	if len(i.scheduled) != 1 || i.scheduled[0] != "1" || i.delay != time.Minute {
		t.Fatalf("%v in %s, %v", i.scheduled, i.delay, i.log)
	}
	i.now, i.status, i.event = i.now.Add(i.delay), 202, map[string]any{"name": "portcullis.retry", "parm1": "1"}
	i.run(t)
	if len(i.sent) != 2 || len(i.scheduled) != 1 {
		t.Fatalf("%d sent, %v", len(i.sent), i.scheduled)
	}
	var ids []string
	for _, d := range i.sent {
		v, err := s.Verify(d, []string{standardSecret})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, v.ID)
	}
	if ids[0] != ids[1] || i.sent[0].Header.Get("webhook-timestamp") == i.sent[1].Header.Get("webhook-timestamp") {
		t.Errorf("the retry is %s, and was %s", ids[1], ids[0])
	}
	i.fields["sys_mod_count"] = "8"
	i.run(t)
	if v, err := s.Verify(i.sent[2], []string{standardSecret}); err != nil || v.ID == ids[0] {
		t.Errorf("the next state of the record is %s, %v", v.ID, err)
	}
}

func TestTheBusinessRuleSaysWhatIsWrong(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*instance)
		sent   int
		log    string
		retry  bool
	}{
		"refused for good":    {func(i *instance) { i.status = 401 }, 1, "error Portcullis refuses CHG0030192 with status 401", false},
		"too many":            {func(i *instance) { i.status = 429 }, 1, "status 429; it is tried again", true},
		"no answer":           {func(i *instance) { i.status = 0 }, 0, "no answer; it is tried again", true},
		"no credential":       {func(i *instance) { i.properties["portcullis.webhook.credential"] = "gone" }, 0, "names no credential", true},
		"another secret":      {func(i *instance) { i.password = "hunter2" }, 0, "begins with whsec_", true},
		"not https":           {func(i *instance) { i.properties["portcullis.webhook.url"] = "http://x" }, 0, "not an https URL", true},
		"no URL":              {func(i *instance) { delete(i.properties, "portcullis.webhook.url") }, 0, "not an https URL", true},
		"given up":            {func(i *instance) { i.status, i.event = 503, map[string]any{"name": "portcullis.retry", "parm1": "8"} }, 1, "given up", false},
		"a dollar, and emoji": {func(i *instance) { i.fields["short_description"] = "${x} 🔥 \"\u2028" }, 1, "", false},
	} {
		i := newInstance()
		c.change(i)
		i.run(t)
		if len(i.sent) != c.sent || (len(i.scheduled) > 0) != c.retry || !strings.Contains(strings.Join(i.log, "\n"), c.log) || (c.log == "") != (len(i.log) == 0) {
			t.Errorf("%s: %d sent, %v, %v", what, len(i.sent), i.scheduled, i.log)
		}
		for _, d := range i.sent {
			if _, err := example(t, "servicenow").Verify(d, []string{standardSecret}); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if strings.ContainsFunc(string(d.Body), func(r rune) bool { return r > '~' }) {
				t.Errorf("%s: the body is not ASCII: %s", what, d.Body)
			}
		}
	}
}
