package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

const (
	// auditPage is how many events are asked for at once.
	auditPage = 200
	// auditRows is how many a person is shown unless more are asked for.
	auditRows = 500
	// auditDays is how far back an audit looks unless it is told.
	auditDays = 7
)

// auditFlags say which events.
type auditFlags struct {
	placeFlags
	vm, requestor, actor, kind, subject, from, to, format string
	limit                                                 int
}

func (s *shell) auditCommand() *cobra.Command {
	var f auditFlags
	c := &cobra.Command{
		Use: "audit", Short: "who could reach a machine, when and why: query and export what happened",
		Long: "List what happened in the order in which it was sealed, seconds after it did: requests and\n" +
			"refusals, doors opened and closed with the requestor, the source, the ticket and the policy they\n" +
			"go back to, changed policies, lockdowns. It takes the role Access.ReadAll.\n\n" +
			"--vm tells what concerns a machine: the requests for it, the policies at its scopes, lockdowns.\n" +
			"--format jsonl is the exact export, an event a line; csv is for spreadsheets: what one could take\n" +
			"for a formula has a ' before it. Both are written page by page as they are read.\n\n" +
			"It tells what the record says. `portcullis audit verify` tells what of that is proven.",
		Example: "portcullis audit --vm web-1 --from 2026-11-01\nportcullis audit --requestor alice@contoso.com --kind Opened\n" +
			"portcullis audit --from 2026-01-01 --to 2027-01-01 --format csv > 2026.csv",
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			out, err := s.auditOutput(f.format, c.Flags().Changed("format"))
			if err != nil {
				return err
			}
			if !c.Flags().Changed("limit") && f.format != "table" {
				f.limit = 0
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			return s.audit(c.Context(), api, f, out)
		},
	}
	l := c.Flags()
	l.StringVar(&f.vm, "vm", "", "only what concerns this machine; one that is gone by its resource id")
	l.StringVar(&f.requestor, "requestor", "", "only this person's requests")
	l.StringVar(&f.actor, "actor", "", "only what this person caused")
	l.StringVar(&f.kind, "kind", "", "only events of this kind, such as Opened")
	l.StringVar(&f.subject, "subject", "", "only events of this request, policy scope, network security group, or lockdown")
	l.StringVar(&f.from, "from", "", fmt.Sprintf("only what was sealed since then: a time, a date, 10:00 (default: %d days ago; all with --subject)", auditDays))
	l.StringVar(&f.to, "to", "", "only what was sealed before then")
	l.StringVar(&f.format, "format", "table", "table, jsonl or csv")
	l.IntVar(&f.limit, "limit", auditRows, "how many to list at most; 0 for all, which is what exports list")
	f.placeFlags.on(c)
	_ = c.RegisterFlagCompletionFunc("vm", s.completeMachines(&f.placeFlags, true)) // these fail only for a flag that is not defined
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "jsonl", "csv"}, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(s.verifyCommand())
	return c
}

func kindNames() (out []string) {
	for _, k := range access.EventKinds() {
		out = append(out, string(k))
	}
	return out
}

// auditOutput is where events go, one after the other.
type auditOutput interface {
	write(e client.AuditEvent, raw json.RawMessage) error
	// end finishes; more says that there are events which were not asked for.
	end(more bool) error
}

func (s *shell) auditOutput(format string, given bool) (auditOutput, error) {
	switch {
	case s.json() && given && format != "table":
		return nil, usagef("give either --output json or --format %s", format)
	case s.json():
		return &jsonOutput{to: s.out}, nil
	case format == "table":
		return s.newAuditTable(), nil
	case format == "jsonl":
		return linesOutput{s.out}, nil
	case format == "csv":
		return &csvOutput{to: s.out}, nil
	}
	return nil, usagef("--format is table, jsonl or csv, not %q", format)
}

// filter reads the flags.
func (s *shell) auditFilter(ctx context.Context, api *client.Client, f auditFlags) (client.AuditFilter, error) {
	q := client.AuditFilter{Kind: f.kind, Actor: f.actor, Requestor: f.requestor, Subject: f.subject}
	if f.kind != "" {
		if _, err := access.ParseEventKind(f.kind); err != nil {
			return q, usagef("--kind: %s", access.AsError(err).Message)
		}
	}
	var err error
	if q.From, q.To, err = s.between(f.from, f.to); err != nil {
		return q, err
	}
	if f.from == "" && f.subject == "" {
		q.From = s.now().AddDate(0, 0, -auditDays)
	}
	if f.vm != "" {
		found, err := s.find(ctx, api, f.placeFlags, []string{f.vm})
		if err != nil {
			return q, err
		}
		q.VirtualMachine = found[0].ID
	}
	return q, nil
}

// between reads --from and --to; zero where they are not given.
func (s *shell) between(from, to string) (a, b time.Time, err error) {
	if from != "" {
		if a, err = s.past("--from", from); err != nil {
			return a, b, err
		}
	}
	if to != "" {
		b, err = s.past("--to", to)
	}
	return a, b, err
}

// audit reads page by page and writes as it reads.
func (s *shell) audit(ctx context.Context, api *client.Client, f auditFlags, out auditOutput) error {
	q, err := s.auditFilter(ctx, api, f)
	if err != nil {
		return err
	}
	for n, token := 0, ""; ; {
		page, next, err := api.AuditEvents(ctx, q, auditPage, token)
		if err != nil {
			return err
		}
		for i, e := range page.Items {
			if f.limit > 0 && n == f.limit {
				return out.end(true)
			}
			if err := out.write(e, page.Raw[i]); err != nil {
				return err
			}
			n++
		}
		if next == "" {
			return out.end(false)
		}
		token = next
	}
}

// jsonOutput writes one document.
type jsonOutput struct {
	to io.Writer
	n  int
}

func (o *jsonOutput) write(_ client.AuditEvent, raw json.RawMessage) error {
	lead := ",\n    "
	if o.n == 0 {
		lead = "{\n  \"items\": [\n    "
	}
	o.n++
	var b bytes.Buffer
	b.WriteString(lead)
	if err := json.Indent(&b, raw, "    ", "  "); err != nil {
		return err
	}
	_, err := b.WriteTo(o.to)
	return err
}

func (o *jsonOutput) end(bool) error {
	tail := "\n  ]\n}\n"
	if o.n == 0 {
		tail = "{\n  \"items\": []\n}\n"
	}
	_, err := io.WriteString(o.to, tail)
	return err
}

// linesOutput writes an event a line, as it came (JSON Lines).
type linesOutput struct{ to io.Writer }

func (o linesOutput) write(_ client.AuditEvent, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(o.to)
	return err
}

// errMore is what an export says that was cut short.
var errMore = errors.New("there are more events than --limit lets through: this export is not complete")

func (o linesOutput) end(more bool) error {
	if more {
		return errMore
	}
	return nil
}
