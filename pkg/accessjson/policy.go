package accessjson

import (
	"fmt"
	"net/netip"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

type policyDoc struct {
	Scope                  string          `json:"scope"`
	Ports                  []policyPortDoc `json:"ports"`
	RequireJustification   bool            `json:"requireJustification"`
	RequireTicket          bool            `json:"requireTicket"`
	Requestors             []string        `json:"requestors"`
	AssertedRequestorsFrom []string        `json:"assertedRequestorsFrom,omitempty"`
	Ticket                 *ticketDoc      `json:"ticket,omitempty"`
	Condition              string          `json:"condition,omitempty"`
	ConditionMessage       string          `json:"conditionMessage,omitempty"`
	Baseline               *bool           `json:"baseline,omitempty"`
	Standing               []string        `json:"standingSources,omitempty"`
}

type policyPortDoc struct {
	Number      int64    `json:"number"`
	Protocol    string   `json:"protocol"`
	Source      *string  `json:"allowedSourceAddressPrefix,omitempty"`
	Sources     []string `json:"allowedSourceAddressPrefixes,omitempty"`
	MaxDuration string   `json:"maxRequestAccessDuration"`
}

type ticketDoc struct {
	Sources             []string `json:"sources"`
	States              []string `json:"states"`
	AssignedToRequestor bool     `json:"assignedToRequestor"`
	InsideWindow        bool     `json:"insideWindow"`
	MaxEventAge         string   `json:"maxEventAge"`
	SetBy               []string `json:"setBy,omitempty"`
	// NotByRequestor holds unless a policy says false.
	NotByRequestor *bool `json:"notByRequestor,omitempty"`
}

// DecodePolicy reads an access policy and validates it. Its errors are
// invalid_argument with every fault that was found.
func DecodePolicy(data []byte) (policy.AccessPolicy, error) {
	var doc policyDoc
	if err := decode(data, MaxBody, &doc); err != nil {
		return policy.AccessPolicy{}, err
	}
	f := &faults{}
	p := policy.AccessPolicy{
		RequireJustification: doc.RequireJustification, RequireTicket: doc.RequireTicket, Requestors: doc.Requestors,
		Baseline: doc.Baseline, Condition: doc.Condition, ConditionMessage: doc.ConditionMessage, Ticket: f.ticketDemand(doc.Ticket),
	}
	var err error
	p.Scope, err = access.ParseScope(doc.Scope)
	f.err("scope", err)
	for _, c := range doc.AssertedRequestorsFrom {
		p.AssertedRequestorsFrom = append(p.AssertedRequestorsFrom, access.Channel(c))
	}
	for i, s := range doc.Standing {
		source, err := access.ParseSource(s)
		f.err(fmt.Sprintf("standingSources[%d]", i), err)
		p.Standing = append(p.Standing, source)
	}
	for i, d := range doc.Ports {
		p.Ports = append(p.Ports, f.policyPort(fmt.Sprintf("ports[%d]", i), d))
	}
	if err := f.error("policy_invalid", "the policy is not valid"); err != nil {
		return policy.AccessPolicy{}, err
	}
	return p, p.Validate()
}

func (f *faults) ticketDemand(d *ticketDoc) *policy.TicketDemand {
	if d == nil {
		return nil
	}
	out := &policy.TicketDemand{
		Sources: d.Sources, States: d.States, AssignedToRequestor: d.AssignedToRequestor, InsideWindow: d.InsideWindow,
		SetBy: append([]string(nil), d.SetBy...), NotByRequestor: d.NotByRequestor == nil || *d.NotByRequestor,
	}
	var err error
	out.MaxEventAge, err = access.ParseDuration(d.MaxEventAge)
	f.err("ticket.maxEventAge", err)
	return out
}

func encodeDemand(d *policy.TicketDemand) *ticketDoc {
	if d == nil {
		return nil
	}
	return &ticketDoc{
		Sources: d.Sources, States: d.States, AssignedToRequestor: d.AssignedToRequestor, InsideWindow: d.InsideWindow,
		MaxEventAge: access.FormatDuration(d.MaxEventAge), SetBy: d.SetBy, NotByRequestor: &d.NotByRequestor,
	}
}

func (f *faults) policyPort(path string, d policyPortDoc) policy.Port {
	var p policy.Port
	if d.Number < 1 || d.Number > 65535 {
		f.add(path+".number", "port_invalid", "number is the port's number, 1 to 65535")
	} else {
		p.Number = uint16(d.Number)
	}
	var err error
	p.Protocol, err = access.ParseProtocol(d.Protocol)
	f.err(path+".protocol", err)
	p.MaxDuration, err = access.ParseDuration(d.MaxDuration)
	f.err(path+".maxRequestAccessDuration", err)
	sources := d.Sources
	switch {
	case d.Source != nil && sources != nil:
		f.add(path, "sources_twice", "give allowedSourceAddressPrefix or allowedSourceAddressPrefixes, not both")
	case d.Source != nil:
		sources = []string{*d.Source}
	}
	for i, s := range sources {
		found, err := access.ParsePolicySource(s)
		f.err(fmt.Sprintf("%s.allowedSourceAddressPrefixes[%d]", path, i), err)
		p.Sources = append(p.Sources, found...)
	}
	return p
}

// EncodePolicy gives the policy's one JSON form, which DecodePolicy reads back
// to the same policy (but for its Version, which is not part of it).
func EncodePolicy(p policy.AccessPolicy) ([]byte, error) {
	doc := policyDoc{
		Scope: string(p.Scope), RequireJustification: p.RequireJustification, RequireTicket: p.RequireTicket, Requestors: p.Requestors,
		Baseline: p.Baseline, Standing: sourcesOf(p.Standing), Condition: p.Condition, ConditionMessage: p.ConditionMessage,
		Ticket: encodeDemand(p.Ticket),
	}
	for _, c := range p.AssertedRequestorsFrom {
		doc.AssertedRequestorsFrom = append(doc.AssertedRequestorsFrom, string(c))
	}
	for _, port := range p.Ports {
		doc.Ports = append(doc.Ports, policyPortDoc{
			Number: int64(port.Number), Protocol: string(port.Protocol), Sources: sourcesOf(port.Sources), MaxDuration: access.FormatDuration(port.MaxDuration),
		})
	}
	return json.Marshal(doc, jsontext.WithIndent("  "))
}

// sourcesOf writes ranges as a policy may hold them. A pair of zero-length
// prefixes reads back the same, so it needs no "*".
func sourcesOf(list []netip.Prefix) (out []string) {
	for _, p := range list {
		out = append(out, access.FormatPrefix(p))
	}
	return out
}
