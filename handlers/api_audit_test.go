package handlers_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// audits remembers what it was asked.
type audits struct {
	asked          bool
	filter         broker.AuditFilter
	subject, token string
}

var (
	sealAt = time.Date(2026, 11, 24, 9, 0, 3, 1, time.UTC)
	seal   = audit.Seal{Subject: "ar-1", Seq: 2, Event: "Opened-k", Digest: "d", Prev: "p", Hash: "h", At: sealAt}
	opened = access.Event{Subject: "ar-1", Kind: access.EventOpened, Key: "k", At: sealAt, Actor: "portcullis", Detail: map[string]string{"vm": "web-1"}}
)

func (a *audits) Events(_ context.Context, _ access.Caller, f broker.AuditFilter) (broker.AuditPage, error) {
	a.asked, a.filter = true, f
	entry := broker.JournalEntry{Seal: seal, Kind: access.EventOpened, At: sealAt, Actor: "portcullis"}
	return broker.AuditPage{Rows: []broker.AuditRow{
		{JournalEntry: entry, Event: &opened, Request: &broker.AuditRequest{Requestor: "alice", Policy: "/s v1"}}, {JournalEntry: entry},
	}, Next: "t"}, nil
}

func (a *audits) Chain(_ context.Context, _ access.Caller, subject, token string) (broker.ChainPage, error) {
	a.asked, a.subject, a.token = true, subject, token
	return broker.ChainPage{Seals: []audit.Seal{seal, {Subject: "ar-1", Seq: 3, Event: "gone"}}, Events: map[string]access.Event{"Opened-k": opened}, Unsealed: []access.Event{opened}}, nil
}

func (a *audits) get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	path, query, _ := strings.Cut(path, "?")
	return a.ask(t, path, query)
}

func TestAnAuditIsAskedForByItsQuery(t *testing.T) {
	a := &audits{}
	w := a.get(t, "/api/audit/events?from=2026-11-24T09:00:00.000000001Z&to=2026-11-25T00:00:00Z&kind=opened&actor=x&requestor=Alice&subject=ar-1&pageSize=7&continuationToken=c&virtualMachine="+scope+"/providers/Microsoft.Compute/virtualMachines/Web-1")
	want := broker.AuditFilter{
		From: sealAt.Add(-3 * time.Second), To: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), Kind: access.EventOpened, Actor: "x", Requestor: "Alice", Subject: "ar-1",
		VM: scope + "/providers/microsoft.compute/virtualmachines/web-1", PageSize: 7, Token: "c",
	}
	if w.Code != 200 || a.filter != want {
		t.Fatalf("%d %s\n%+v\nwant %+v", w.Code, w.Body, a.filter, want)
	}
	for _, want := range []string{`"requestor": "alice"`, `"policy": "/s v1"`, `"vm": "web-1"`, `"at": "2026-11-24T09:00:03.000000001Z"`, `continuationToken=t`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s is not in %s", want, w.Body)
		}
	}
	if n := strings.Count(w.Body.String(), `"missing": true`); n != 1 {
		t.Errorf("one event is missing, not %d", n)
	}
	for _, query := range []string{"from=x", "to=2026", "kind=Opend", "pageSize=201", "virtualMachine=web-1"} {
		if w := a.get(t, "/api/audit/events?"+query); w.Code != 400 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
}

func TestAChainHasItsSealsThenWhatIsNotSealed(t *testing.T) {
	a := &audits{}
	w := a.get(t, "/api/audit/chains?subject=%2Fsubscriptions%2Fx&continuationToken=4")
	if body := w.Body.String(); w.Code != 200 || a.subject != "/subscriptions/x" || a.token != "4" || strings.Count(body, `"seal"`) != 2 || strings.Count(body, `"event": {`) != 2 {
		t.Errorf("%d %q %q %s", w.Code, a.subject, a.token, body)
	}
}
