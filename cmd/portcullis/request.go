package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/spf13/cobra"
)

// asking is what the flags of a request say.
type asking struct {
	placeFlags
	vms, ports                          []string
	span, until, from, start            string
	reason, ticket, requestor, id, file string
	waitFlags
}

func (s *shell) requestCommand() *cobra.Command {
	var a asking
	c := &cobra.Command{
		Use: "request --vm NAME --port NUMBER --for TIME --reason WHY", Short: "ask for access: ports of machines, from your address, for a while",
		Long: "Ask for access. Every port of every machine that is named is asked for; all of it is granted, or\n" +
			"nothing is and you are told what each port lacks. The source is your own address, as the service\n" +
			"sees it, unless --from says otherwise. Ports of machines that differ go in a file: --file takes\n" +
			"the request message of /api/schemas/access-request.",
		Example: "portcullis request --vm web-1 --port 22 --for 1h --reason 'look at the logs' --wait\n" +
			"portcullis request --vm web-1 --vm prod/db-1 --port 22,5432/TCP --for PT90M --ticket INC-7 --reason upgrade\n" +
			"portcullis request --vm web-1 --port 3389 --from 203.0.113.0/28 --start '2026-11-24 22:00' --until '2026-11-24 23:30' --reason maintenance",
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error { return s.request(c.Context(), a) },
	}
	f := c.Flags()
	f.StringSliceVar(&a.vms, "vm", nil, "a virtual machine: its name, group/name or resource id; several by commas or by giving it again")
	f.StringSliceVar(&a.ports, "port", nil, "a port, with a protocol if need be: 22, 53/UDP; several as for --vm")
	f.StringVar(&a.span, "for", "", "for how long: 1h30m or PT1H30M")
	f.StringVar(&a.until, "until", "", "until when, instead of --for: 2026-11-24T10:00:00Z, '2026-11-24 10:00', 10:00")
	f.StringVar(&a.from, "from", "", "the source: an address or a range (default: your own address)")
	f.StringVar(&a.start, "start", "", "when to open, if not at once: a time as for --until, or +2h")
	f.StringVar(&a.reason, "reason", "", "why")
	f.StringVar(&a.ticket, "ticket", "", "the ticket's number")
	f.StringVar(&a.requestor, "requestor", "", "for whom, if not for yourself (takes the role Access.RequestForOthers)")
	f.StringVar(&a.id, "id", "", "a key of your own: asking again with it is the same request")
	f.StringVarP(&a.file, "file", "f", "", "the request message's file, instead of all above (- for standard input)")
	a.placeFlags.on(c)
	a.waitFlags.on(c)
	c.MarkFlagsMutuallyExclusive("for", "until")
	for _, name := range []string{"vm", "port", "for", "until", "from", "start", "reason", "ticket", "requestor"} {
		c.MarkFlagsMutuallyExclusive("file", name)
	}
	_ = c.RegisterFlagCompletionFunc("vm", s.completeMachines(&a.placeFlags, true)) // fails only for a flag that is not defined
	return c
}

func (s *shell) request(ctx context.Context, a asking) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	body, asked, err := s.message(ctx, api, a)
	if err != nil {
		return err
	}
	stop := s.spin("asking")
	out, err := api.Submit(ctx, body, a.id)
	stop()
	if err != nil {
		return &placedError{err, asked}
	}
	if a.wait && out.Value.Outcome == "Accepted" {
		return s.waitOpen(ctx, api, out.Value, a.limit)
	}
	if s.json() {
		return s.raw(s.out, out.Raw)
	}
	if err := s.tellRequest(out.Value); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\nFollow it: portcullis status %s --wait\n", out.Value.ID)
	return nil
}

// message gives the request's document, and what it asks for as the flags name
// it.
func (s *shell) message(ctx context.Context, api *client.Client, a asking) (any, []client.NewTarget, error) {
	if a.file == "" {
		m, err := s.newRequest(ctx, api, a)
		return m, m.VirtualMachines, err
	}
	data, err := s.read(a.file)
	if err != nil {
		return nil, nil, err
	}
	var m client.NewRequest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, nil, usagef("%s is not a request message: %v", a.file, err)
	}
	return json.RawMessage(data), m.VirtualMachines, nil
}

func (s *shell) newRequest(ctx context.Context, api *client.Client, a asking) (client.NewRequest, error) {
	m := client.NewRequest{Requestor: a.requestor, Justification: a.reason, Ticket: a.ticket}
	switch {
	case len(a.vms) == 0:
		return m, usagef("for which machine? --vm NAME; `portcullis vms` lists those you may ask for")
	case len(a.ports) == 0:
		return m, usagef("which port? --port 22; `portcullis vms %s` shows those there are", a.vms[0])
	case a.span == "" && a.until == "":
		return m, usagef("for how long? --for 1h, or --until a time")
	}
	words, err := portWords(a.ports)
	if err != nil {
		return m, err
	}
	port := client.NewPort{Source: a.from}
	if a.span != "" {
		port.Duration, err = isoDuration("--for", a.span)
	} else {
		port.EndTimeUTC, err = s.moment("--until", a.until)
	}
	if err != nil {
		return m, err
	}
	if a.start != "" {
		if m.StartTimeUTC, err = s.moment("--start", a.start); err != nil {
			return m, err
		}
		m.StartTimeUTC = m.StartTimeUTC.UTC()
	}
	port.EndTimeUTC = port.EndTimeUTC.UTC()
	stop := s.spin("looking for the machines")
	machines, err := s.find(ctx, api, a.placeFlags, a.vms)
	stop()
	if err != nil {
		return m, err
	}
	for _, vm := range machines {
		t := client.NewTarget{ID: vm.ID}
		for _, w := range words {
			port.Number, port.Protocol = w.number, w.protocol
			t.Ports = append(t.Ports, port)
		}
		m.VirtualMachines = append(m.VirtualMachines, t)
	}
	return m, nil
}

// read reads a file of bounded size; "-" is standard input.
func (s *shell) read(file string) ([]byte, error) { return s.readMost(file, accessjson.MaxBody) }

// readMost reads a file, or standard input, of at most so many bytes.
func (s *shell) readMost(file string, most int) ([]byte, error) {
	in := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &usageError{err}
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, int64(most)+1))
	if err == nil && len(data) > most {
		err = usagef("%s has more than %d bytes", file, most)
	}
	return data, err
}

// tellRequest shows a request with what became of it.
func (s *shell) tellRequest(r client.AccessRequest) error {
	t := newTable(s.out, "")
	row := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	row("Request", r.ID)
	row("Outcome", r.Outcome)
	by := r.Requestor
	if r.RequestedBy != "" && r.RequestedBy != r.Requestor {
		by += ", asked by " + r.RequestedBy
	}
	row("For", by)
	row("Reason", r.Justification)
	row("Ticket", r.Ticket)
	row("Start", s.deadline(r.StartTimeUTC))
	row("Extends", r.Extends)
	row("Extended by", r.ExtendedBy)
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	if r.Refusal != nil {
		fmt.Fprintf(s.out, "Refused: %s\n", explain(refusalOf(r)))
		return nil
	}
	return s.tellPorts(r)
}

// refusalOf gives the recorded refusal as the error it was.
func refusalOf(r client.AccessRequest) error {
	e := &client.Error{Code: r.Refusal.Code, Reason: r.Refusal.Reason, Detail: r.Refusal.Message, Violations: r.Refusal.Violations}
	var asked []client.NewTarget
	for _, vm := range r.VirtualMachines {
		t := client.NewTarget{ID: vm.ID}
		for _, p := range vm.Ports {
			t.Ports = append(t.Ports, client.NewPort{Number: p.Number})
		}
		asked = append(asked, t)
	}
	return &placedError{e, asked}
}

func (s *shell) tellPorts(r client.AccessRequest) error {
	t := newTable(s.out, "", "#", "MACHINE", "PORT", "FROM", "STATUS", "UNTIL", "WHY")
	for _, vm := range r.VirtualMachines {
		for _, p := range vm.Ports {
			t.row(fmt.Sprint(p.Index), nameOf(vm.ID), portName(p.Number, p.Protocol), p.Source, p.Status, s.ends(p), why(p))
		}
	}
	return t.flush()
}

// ends says when a port closes, or did.
func (s *shell) ends(p client.GrantedPort) string {
	if !p.EndedAtUTC.IsZero() {
		return "closed " + s.stamp(p.EndedAtUTC)
	}
	return s.deadline(p.EndTimeUTC)
}

// why says why a port is as it is, in the words of its status.
func why(p client.GrantedPort) string {
	switch {
	case p.BlockedBy != "" && p.StatusReason != "":
		return p.StatusReason + ": " + p.BlockedBy
	case p.BlockedBy != "":
		return p.BlockedBy
	}
	return p.StatusReason
}

// waitFlags say whether and how long to wait.
type waitFlags struct {
	wait  bool
	limit time.Duration
}

func (w *waitFlags) on(c *cobra.Command) {
	c.Flags().BoolVar(&w.wait, "wait", false, "wait until it is done, and exit with 1 if it failed")
	c.Flags().DurationVar(&w.limit, "timeout", 16*time.Minute, "how long to wait (from its start, if that is to come)")
}
