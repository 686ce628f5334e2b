package tables_test

import (
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// TestOneRowAloneGoesWithoutATransaction holds that such a write does what the
// transaction would: what is added stands, what is entered is replaced.
func TestOneRowAloneGoesWithoutATransaction(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	var calls []string
	defer w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		table, _, _ := strings.Cut(path.Base(r.URL.Path), "(")
		calls = append(calls, strings.TrimSpace(r.Method+" "+table+" "+r.Header.Get("Prefer")))
		return false
	})()
	first, second := decision(request(1), "alice"), decision(request(1), "ben")
	for _, rec := range []access.Record{first, second} {
		got, err := w.Keep(ctx, rec, nil)
		check(t, err)
		if got.Request.Requestor != first.Request.Requestor {
			t.Errorf("%+v", got.Request.Requestor)
		}
	}
	entry := broker.JournalEntry{Seal: audit.Seal{Subject: "lockdown", Seq: 1, Event: "e", At: at}, Kind: "x", At: at, Actor: "anna"}
	check(t, w.EnterJournal(ctx, []broker.JournalEntry{entry}))
	entry.Actor = "ben"
	check(t, w.EnterJournal(ctx, []broker.JournalEntry{entry}))
	two := entry
	two.Seal.Seq, two.Seal.Event = 2, "f"
	check(t, w.EnterJournal(ctx, []broker.JournalEntry{entry, two}))
	want := []string{
		"POST requests return-no-content", "POST requests return-no-content", "GET requests", // there is one already
		"PUT journal", "PUT journal", "POST $batch",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
	entries, _, err := w.Journal(ctx, broker.JournalQuery{From: at, To: at.Add(time.Second), Most: 10})
	check(t, err)
	if len(entries) != 2 || entries[0].Actor != "ben" {
		t.Errorf("%+v", entries)
	}
}
