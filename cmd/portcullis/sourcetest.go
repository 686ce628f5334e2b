package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/ticket"
	"github.com/spf13/cobra"
)

// sourceTrial is a payload that is tried on a mapping.
type sourceTrial struct {
	file, payload, at string
	headers           []string
}

func (s *shell) sourceTest() *cobra.Command {
	var t sourceTrial
	c := &cobra.Command{
		Use: "test [NAME] [-f FILE]", Short: "try a source's mapping on a payload, and show the request that it makes", Args: cobra.MaximumNArgs(1),
		Long: "Try the mapping of a source that is stored on the payload of a file, or on its own sample where none\n" +
			"is given, and show the event and the access request that it makes, or the fault with its line and\n" +
			"column. Nothing is sent. With --payload, -f is the file of a source that need not be stored.\n\n" +
			"With --header the delivery's signature is checked too, by the secrets that the source names: they\n" +
			"are read from variables of those names. --at is when the delivery came, if not now.",
		Example: "portcullis source test itsm -f payload.json\nportcullis source test -f source.yaml --payload payload.json\n" +
			"portcullis source test itsm -f payload.json --header \"X-Hub-Signature-256: sha256=...\"",
		RunE: func(c *cobra.Command, args []string) error { return s.trySource(c, t, args) },
	}
	c.Flags().StringVarP(&t.file, "file", "f", "", "the payload's file (- for standard input); with --payload the source's")
	c.Flags().StringVar(&t.payload, "payload", "", "the payload's file, where -f is the source's")
	c.Flags().StringArrayVar(&t.headers, "header", nil, "a header of the delivery, \"Name: value\"; may be repeated")
	c.Flags().StringVar(&t.at, "at", "", "when the delivery came, as in RFC 3339; now if left out")
	return c
}

func (s *shell) trySource(c *cobra.Command, t sourceTrial, args []string) error {
	at := s.now()
	if t.at != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, t.at); err != nil {
			return usagef("--at %s is no time as in RFC 3339, such as 2026-11-24T10:00:00Z", t.at)
		}
	}
	src, payload, err := s.trial(c, t, args)
	if err != nil {
		return err
	}
	v, err := s.proven(t, src, payload, at)
	if err != nil {
		return err
	}
	// A payload of a file may be old: that it is, is told and hides nothing.
	ageless := src
	ageless.MaxAge = math.MaxInt64
	e, ours, err := ageless.Map(c.Context(), v, at)
	if err != nil {
		return err
	}
	if s.json() {
		return s.tellEventJSON(e, ours)
	}
	if !ours {
		fmt.Fprintln(s.out, "ignored  mapping.when says that this is none of its events")
		return nil
	}
	s.tellEvent(e)
	if age := at.Sub(e.At); !e.Ends && age > src.MaxAge {
		fmt.Fprintf(s.out, "stale    it happened %s before it came: the source takes %s at most, and would refuse it\n", span(age.Truncate(time.Second)), span(src.MaxAge))
	}
	return nil
}

// trial gives the source and the payload that are meant.
func (s *shell) trial(c *cobra.Command, t sourceTrial, args []string) (src ticket.Source, payload []byte, err error) {
	file := t.file
	switch {
	case len(args) == 0 && (t.file == "" || t.payload == ""):
		return src, nil, usagef("name a source that is stored, or give a source's file with -f and a payload with --payload")
	case len(args) == 1 && t.payload != "":
		return src, nil, usagef("--payload is for a source of a file: with a name, -f is the payload")
	case len(args) == 0:
		file = t.payload
		src, err = s.sourceFile(t.file)
	default:
		api, e := s.client()
		if e != nil {
			return src, nil, e
		}
		found, e := api.Source(c.Context(), args[0])
		if e != nil {
			return src, nil, e
		}
		src, err = ticket.DecodeSource(found.Raw)
	}
	if err != nil || file == "" {
		return src, src.Sample, err
	}
	payload, err = s.read(file)
	return src, payload, err
}

// proven gives the delivery as it is once it is verified; without headers, as if
// it were.
func (s *shell) proven(t sourceTrial, src ticket.Source, payload []byte, at time.Time) (ticket.Verified, error) {
	if len(t.headers) == 0 {
		v := ticket.Verified{ID: "te-none", BodyHash: accessjson.Hash(payload), Body: payload}
		if src.Kind == ticket.Standard || src.Kind == ticket.ServiceNow {
			v.At = at // it would be signed
		}
		return v, nil
	}
	h := http.Header{}
	for _, line := range t.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return ticket.Verified{}, usagef("--header is \"Name: value\"")
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	var secrets []string
	for _, secret := range config.NewSecrets(s.lookup).Values(src.Secrets) {
		secrets = append(secrets, string(secret))
	}
	v, err := src.Verify(ticket.Delivery{Header: h, Body: payload, ReceivedAt: at}, secrets)
	if access.CodeOf(err) == access.Unavailable {
		return v, usagef("%s: it is read from a variable of that name", access.AsError(err).Message)
	}
	if err == nil && !s.json() {
		fmt.Fprintln(s.out, "signed   by a secret of the source")
	}
	return v, err
}

func (s *shell) tellEvent(e access.TicketEvent) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(s.out, "%-8s %s\n", name, clean(value))
		}
	}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	line("ticket", e.Ticket.String())
	line("at", stamp(e.At))
	line("state", e.State)
	line("assigned", e.Assignee)
	line("actor", e.Actor)
	if !e.WindowStart.IsZero() || !e.WindowEnd.IsZero() {
		line("window", stamp(e.WindowStart)+" - "+stamp(e.WindowEnd))
	}
	switch {
	case e.Ends:
		line("ends", "whatever the ticket vouched for is revoked")
	case e.Ask == nil:
		line("request", "none")
	default:
		line("request", "for "+e.Ask.Requestor)
		for _, p := range e.Ask.Ports {
			line("", portLine(p))
		}
		line("starts", stamp(e.Ask.StartTime))
		line("because", e.Ask.Justification)
	}
}

func portLine(p access.PortRequest) string {
	protocol, until := string(p.Protocol), "for "+span(p.Duration)
	if protocol == "" {
		protocol = "as the policy has it"
	}
	if !p.EndTime.IsZero() {
		until = "until " + p.EndTime.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s port %d (%s) from %s %s", p.VM.Name(), p.Port, protocol, access.FormatPrefix(p.Source), until)
}

// tellEventJSON shows an event for scripts: null for one that is ignored.
func (s *shell) tellEventJSON(e access.TicketEvent, ours bool) error {
	type port struct {
		VirtualMachine access.ResourceID `json:"virtualMachine"`
		Number         uint16            `json:"number"`
		Protocol       access.Protocol   `json:"protocol,omitempty"`
		Source         string            `json:"allowedSourceAddressPrefix"`
		Duration       string            `json:"duration,omitempty"`
		EndTime        time.Time         `json:"endTimeUtc,omitzero"`
	}
	type request struct {
		Requestor     string    `json:"requestor"`
		Justification string    `json:"justification,omitempty"`
		StartTime     time.Time `json:"startTimeUtc,omitzero"`
		Ports         []port    `json:"ports"`
	}
	type event struct {
		Ticket string    `json:"ticket"`
		At     time.Time `json:"at"`
		access.TicketFacts
		Actor   string   `json:"actor,omitempty"`
		Ends    bool     `json:"ends,omitempty"`
		Request *request `json:"request,omitempty"`
	}
	var out *event
	if ours {
		out = &event{Ticket: e.Ticket.String(), At: e.At, TicketFacts: e.TicketFacts, Actor: e.Actor, Ends: e.Ends}
		if e.Ask != nil {
			out.Request = &request{Requestor: e.Ask.Requestor, Justification: e.Ask.Justification, StartTime: e.Ask.StartTime}
			for _, p := range e.Ask.Ports {
				one := port{VirtualMachine: p.VM, Number: p.Port, Protocol: p.Protocol, Source: access.FormatPrefix(p.Source), EndTime: p.EndTime}
				if p.Duration > 0 {
					one.Duration = access.FormatDuration(p.Duration)
				}
				out.Request.Ports = append(out.Request.Ports, one)
			}
		}
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return s.raw(s.out, data)
}
