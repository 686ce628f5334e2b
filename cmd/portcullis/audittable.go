package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/client"
)

// auditTable is for people.
type auditTable struct {
	*shell
	*table
	n int
}

func (s *shell) newAuditTable() *auditTable {
	return &auditTable{shell: s, table: newTable(s.out, "", "WHEN", "WHAT", "MACHINE", "PORT", "FROM", "FOR", "BY", "TICKET", "POLICY", "WHY")}
}

func (t *auditTable) write(e client.AuditEvent, _ json.RawMessage) error {
	t.n++
	p := placesOf(e)
	for i, id := range p.machines {
		p.machines[i] = nameOf(id)
	}
	ticket, policy := p.vouched, p.policy
	if ticket == "" {
		ticket = p.ticket
	}
	if scope, version, ok := strings.Cut(policy, " "); ok {
		policy = scopeName(scope) + " " + version
	}
	t.row(t.stamp(e.At), e.Kind, join(p.machines), join(p.ports), join(p.sources), p.requestor, e.Actor, ticket, policy, whyOf(e))
	return nil
}

func (t *auditTable) end(more bool) error {
	if t.n == 0 {
		fmt.Fprintln(t.out, "no events")
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(t.out, "\nthere are more than these %d: --limit, or a later --from\n", t.n)
	}
	return nil
}

// places are what an event is about, and what it goes back to.
type places struct {
	machines, ports, sources []string
	until                    string

	requestor, requestedBy, justification, ticket, policy, vouched string
}

// placesOf reads an event's fields: those of one grant, or of all that it tells.
func placesOf(e client.AuditEvent) places {
	var p places
	if r := e.Request; r != nil {
		p = places{requestor: r.Requestor, requestedBy: r.RequestedBy, justification: r.Justification, ticket: r.Ticket, policy: r.Policy, vouched: r.Vouched}
	}
	add := func(to *[]string, s string) {
		if s != "" && !slices.Contains(*to, s) {
			*to = append(*to, s)
		}
	}
	d := e.Detail
	add(&p.machines, d["vm"])
	add(&p.ports, d["port"])
	add(&p.sources, d["source"])
	p.until = d["endTimeUtc"]
	for _, k := range slices.Sorted(maps.Keys(d)) {
		// id port "from" source ["until" time …]
		f := strings.Fields(d[k])
		if (strings.HasPrefix(k, "grant.") || strings.HasPrefix(k, "asked.")) && len(f) >= 4 && f[2] == "from" {
			add(&p.machines, f[0])
			add(&p.ports, f[1])
			add(&p.sources, f[3])
			if len(f) >= 6 && p.until == "" {
				p.until = f[5]
			}
		}
	}
	return p
}

func join(list []string) string { return strings.Join(list, ", ") }

// whyOf tells a person why it happened.
func whyOf(e client.AuditEvent) string {
	if e.Missing {
		return "THIS EVENT IS GONE from the record: portcullis audit verify"
	}
	d := e.Detail
	switch e.Kind {
	case "PolicyChanged", "PolicyRemoved", "RuleRemoved", "BaselineShut", "BaselineLifted", "Drift":
		return scopeName(e.Subject)
	}
	for _, name := range []string{"statusReason", "violations", "reason", "message", "justification"} {
		if d[name] != "" {
			return d[name]
		}
	}
	if e.Request != nil {
		return e.Request.Justification
	}
	return ""
}

// csvOutput is for spreadsheets.
type csvOutput struct {
	to    io.Writer
	begun bool
}

// begin writes the columns' names, before the first row or at the end of none.
func (o *csvOutput) begin() error {
	if o.begun {
		return nil
	}
	o.begun = true
	return o.line("sealedAt", "at", "kind", "subject", "seq", "actor", "requestor", "requestedBy", "machines", "ports", "sources", "until",
		"why", "justification", "ticket", "vouched", "policy", "missing", "hash", "detail")
}

func (o *csvOutput) write(e client.AuditEvent, _ json.RawMessage) error {
	if err := o.begin(); err != nil {
		return err
	}
	p := placesOf(e)
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return err
	}
	if e.Detail == nil {
		detail = nil
	}
	return o.line(e.Seal.At.UTC().Format(time.RFC3339Nano), e.At.UTC().Format(time.RFC3339Nano), e.Kind, e.Subject, strconv.Itoa(e.Seal.Seq), e.Actor,
		p.requestor, p.requestedBy, join(p.machines), join(p.ports), join(p.sources), p.until, whyOf(e), p.justification, p.ticket, p.vouched, p.policy,
		strconv.FormatBool(e.Missing), e.Seal.Hash, string(detail))
}

func (o *csvOutput) end(more bool) error {
	if err := o.begin(); err != nil {
		return err
	}
	if more {
		return errMore
	}
	return nil
}

// formula finds where a spreadsheet could see the beginning of one: at the start
// of a cell, or behind what another may take for the end of one.
var formula = regexp.MustCompile(`(^|[;,|\t\r\n])([\s"']*)([=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}])`)

// line writes a row (RFC 4180), with every cell quoted and no formula in any: see
// OWASP, "CSV Injection". A byte of zero ends a cell in some readers.
func (o *csvOutput) line(cells ...string) error {
	for i, c := range cells {
		c = strings.ReplaceAll(c, "\x00", "\ufffd")
		c = formula.ReplaceAllString(c, "$1$2'$3")
		cells[i] = `"` + strings.ReplaceAll(c, `"`, `""`) + `"`
	}
	_, err := io.WriteString(o.to, strings.Join(cells, ",")+"\r\n")
	return err
}
