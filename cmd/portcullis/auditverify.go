package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/spf13/cobra"
)

type verifyFlags struct {
	from, to, subject, anchors, clientID, retention string
	tables, managed                                 bool
}

func (s *shell) verifyCommand() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use: "verify", Short: "find an edit or a gap in the record of what happened",
		Long: "Hold the chains of events, the journal and the anchors against each other, and say what that\n" +
			"proves and what it does not. The exit code is 1 if anything is wrong.\n\n" +
			"The events are read through the service (which takes the role Access.ReadAll), or with --tables\n" +
			"from the tables themselves, by the settings of the handler. The anchors are read from their\n" +
			"container, by whoever is signed in here, and never through the service.\n\n" +
			"A request that is gone is no finding once its last anchor is older than the retention. How long\n" +
			"that is you say here: the service is not asked, since it is what is checked.",
		Example: "portcullis audit verify --anchors https://account.blob.core.windows.net/anchors\nportcullis audit verify --tables --from 2026-11-01\nportcullis audit verify --subject ar-aaaaaaaaaaaaaaaaaaaaaaaaaa",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error { return s.verify(c.Context(), f) },
	}
	l := c.Flags()
	l.StringVar(&f.from, "from", "", "only chains with a seal since then: a time, a date, 10:00 (default: all)")
	l.StringVar(&f.to, "to", "", "only chains with a seal before then")
	l.StringVar(&f.subject, "subject", "", "only the chain of this request, policy scope, network security group, or lockdown; not the journal")
	l.StringVar(&f.anchors, "anchors", "", "the container of the anchors (default: PORTCULLIS_ANCHORS_URL; without either, none are looked at)")
	l.StringVar(&f.retention, "retention", access.FormatDuration(broker.DefaultRetention), "how long requests are kept after they were over (PORTCULLIS_RETENTION); P0D: for ever")
	l.BoolVar(&f.tables, "tables", false, "read the tables by their settings, instead of the API")
	l.BoolVar(&f.managed, "managed-identity", false, "read the anchors by a managed identity instead of the default credential chain")
	l.StringVar(&f.clientID, "client-id", "", "the client id of a user-assigned identity")
	return c
}

func (s *shell) verify(ctx context.Context, f verifyFlags) error {
	q := broker.CheckQuery{Subject: f.subject}
	var err error
	if q.From, q.To, err = s.between(f.from, f.to); err != nil {
		return err
	}
	if q.Retention, err = retentionOf(f.retention); err != nil {
		return err
	}
	p := broker.CheckPorts{Clock: s.now, Wait: s.sleep}
	if f.tables {
		store, err := s.store()
		if err != nil {
			return err
		}
		p.Chains, p.Journal = store, store
	} else {
		api, err := s.client()
		if err != nil {
			return err
		}
		p.Chains, p.Journal = apiRecord{api}, apiRecord{api}
	}
	if p.Anchors, err = s.openAnchors(f); err != nil {
		return err
	}
	check, err := broker.NewAuditCheck(p)
	if err != nil {
		return err
	}
	r, err := check.Check(ctx, q)
	if err != nil {
		return err
	}
	if err := s.tellAudit(r, f, p.Anchors != nil); err != nil {
		return err
	}
	if n := len(r.Findings); n > 0 {
		return exitf(exitFailed, "the record is not whole: %s", count(n, "finding"))
	}
	return nil
}

// retentionOf reads the retention; zero for none. A short one would excuse what is
// missing.
func retentionOf(text string) (time.Duration, error) {
	if text == "P0D" {
		return 0, nil
	}
	d, err := access.ParseDuration(text)
	if err != nil {
		return 0, &usageError{fmt.Errorf("--retention: %s", access.AsError(err).Message)}
	}
	if d < broker.ShortestRetention {
		return 0, &usageError{fmt.Errorf("--retention: %s or more, or P0D", access.FormatDuration(broker.ShortestRetention))}
	}
	return d, nil
}

// openAnchors opens the container of the anchors; nil for none.
func (s *shell) openAnchors(f verifyFlags) (broker.AnchorReader, error) {
	lookup := s.lookup
	if f.anchors != "" {
		lookup = func(name string) (string, bool) {
			if name == "PORTCULLIS_ANCHORS_URL" {
				return f.anchors, true
			}
			return s.lookup(name)
		}
	}
	cfg, err := config.Load(lookup, config.Anchors)
	if err != nil {
		return nil, &usageError{err}
	}
	if cfg.AnchorsURL == "" {
		return nil, nil
	}
	return s.anchors(cfg.AnchorsURL, config.Connection{ManagedIdentity: f.managed, ClientID: f.clientID})
}

func connectAnchors(url string, like config.Connection) (broker.AnchorReader, error) {
	return connect.Anchors(url, like)
}

// apiRecord reads the record through the API.
type apiRecord struct{ api *client.Client }

// Journal implements broker.JournalReader.
func (r apiRecord) Journal(ctx context.Context, q broker.JournalQuery) ([]broker.JournalEntry, string, error) {
	page, next, err := r.api.AuditEvents(ctx, client.AuditFilter{From: q.From, To: q.To}, min(q.Most, auditPage), q.After)
	var out []broker.JournalEntry
	for _, e := range page.Items {
		out = append(out, broker.JournalEntry{Seal: audit.Seal(e.Seal), Kind: access.EventKind(e.Kind), At: e.At, Actor: e.Actor})
	}
	return out, next, err
}

// Chain implements broker.Chains.
func (r apiRecord) Chain(ctx context.Context, subject string) (events []access.Event, seals []audit.Seal, err error) {
	links, err := r.api.AuditChain(ctx, subject)
	if e, ok := problemOf(err); ok && e.Reason == "subject_unknown" {
		return nil, nil, nil
	}
	for _, l := range links.Items {
		if l.Seal != nil {
			seals = append(seals, audit.Seal(*l.Seal))
		}
		if e := l.Event; e != nil {
			events = append(events, access.Event{Subject: e.Subject, Kind: access.EventKind(e.Kind), At: e.At, Actor: e.Actor, Key: e.Key, Detail: e.Detail})
		}
	}
	return events, seals, err
}

// tellAudit tells what was checked and found, and what that proves.
func (s *shell) tellAudit(r broker.AuditReport, f verifyFlags, anchored bool) error {
	proven, not := proof(r, f, anchored)
	if s.json() {
		data, err := json.Marshal(struct {
			broker.AuditReport
			Proven    []string `json:"proven"`
			NotProven []string `json:"notProven"`
		}{r, proven, not})
		if err != nil {
			return err
		}
		return s.raw(s.out, data)
	}
	fmt.Fprintf(s.out, "Checked %s: %s, %s", count(r.Subjects, "chain"), count(r.Events, "event"), count(r.Seals, "seal"))
	if r.Subject == "" {
		fmt.Fprintf(s.out, "; the journal: %d of them", r.Journal)
	}
	if r.Anchors > 0 {
		fmt.Fprintf(s.out, "; %s, of %s to %s\nThe last anchor: SHA-256 %s", count(r.Anchors, "anchor"), s.stamp(r.FirstAnchor), s.stamp(r.LastAnchor), clean(r.LastAnchorHash))
	}
	fmt.Fprintln(s.out)
	if r.Retired > 0 {
		fmt.Fprintf(s.out, "%s: not proven any more\n", retiredWords(r, f))
	}
	if len(r.Findings) > 0 {
		fmt.Fprintf(s.out, "\n%s\n\n", s.colored(s.colorOut, red, "Wrong:"))
		t := newTable(s.out, "  ", "SUBJECT", "PROBLEM", "WHAT")
		for _, w := range r.Findings {
			t.row(w.Subject, string(w.Problem), w.Message)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if n := len(r.Uncovered); n > 0 {
		const most = 20
		fmt.Fprintf(s.out, "\nCovered by no anchor yet:\n\n")
		t := newTable(s.out, "  ", "SUBJECT", "SEALS", "SINCE")
		for _, u := range r.Uncovered[:min(n, most)] {
			seals := strconv.Itoa(u.FromSeq)
			if u.ToSeq > u.FromSeq {
				seals += " to " + strconv.Itoa(u.ToSeq)
			}
			t.row(u.Subject, seals, s.stamp(u.Since))
		}
		if err := t.flush(); err != nil {
			return err
		}
		if n > most {
			fmt.Fprintf(s.out, "  and more: -o json lists %d of them\n", n)
		}
	}
	head := "Proven:"
	if len(r.Findings) > 0 {
		head = "What this would prove, were nothing wrong:"
	}
	s.tellPoints(head, proven)
	s.tellPoints("Not proven:", not)
	return nil
}

func (s *shell) tellPoints(head string, points []string) {
	fmt.Fprintf(s.out, "\n%s\n", head)
	for _, p := range points {
		fmt.Fprintln(s.out, "  - "+p)
	}
}

// proof says what follows from a report, and what does not; docs/audit.md says
// more.
func proof(r broker.AuditReport, f verifyFlags, anchored bool) (proven, not []string) {
	proven = []string{"each chain is whole in itself: no sealed event was altered, taken out or put in between"}
	if r.Subject == "" {
		proven = append(proven, "the journal and the chains name the same seals")
	} else {
		not = append(not, "anything of other subjects, or of the journal: one chain alone was looked at")
	}
	if r.Subject == "" && (f.from != "" || f.to != "") {
		not = append(not, "anything of chains that have no seal within the time that was asked for")
	}
	if anchored && r.Anchors > 0 {
		proven = append(proven, "up to the last anchor of each, the chains are those that were anchored, and none that was anchored is gone"+butRetired(r)+": if the container's retention policy is locked")
		if r.UncoveredSeals > 0 {
			not = append(not, fmt.Sprintf("%s behind the last anchor of their chains: until the next, whoever can write the tables can make them anew, unseen", count(r.UncoveredSeals, "seal")))
		}
	} else {
		not = append(not, "that the chains are those that were written: without anchors, whoever can write the tables can make a chain anew, cut off its end or take out a subject and its journal, unseen")
	}
	if r.Retired > 0 {
		not = append(not, retiredWords(r, f)+", or removed by somebody else after that: nothing of them is proven any more")
	}
	not = append(not, "anything of an event before it was sealed, which is seconds after it was written")
	if !f.tables {
		not = append(not, "that the service showed what the tables hold: with --tables they are read themselves")
	}
	not = append(not, "that the service recorded what it did: Azure's activity log tells what was done to the network security groups")
	return proven, not
}

// retiredWords tells how many chains are gone by the retention.
func retiredWords(r broker.AuditReport, f verifyFlags) string {
	was := "was"
	if r.Retired > 1 {
		was = "were"
	}
	days := f.retention
	if d, err := access.ParseDuration(f.retention); err == nil && d%(24*time.Hour) == 0 {
		days = count(int(d/(24*time.Hour)), "day")
	}
	return fmt.Sprintf("%s %s retired by the retention of %s", count(r.Retired, "chain"), was, days)
}

func butRetired(r broker.AuditReport) string {
	if r.Retired == 0 {
		return ""
	}
	return " but those that were retired"
}
