package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/expression"
)

// maxConditionMessage bounds the message of a condition, in characters.
const maxConditionMessage = 300

// Machine is what a condition may know of a machine beyond its id.
type Machine struct {
	OS       string // Linux, Windows or ""
	Location string // such as westeurope
	Tags     map[string]string
}

// conditionVars are the variables of a condition. All names of resources are in
// lower case, all times UTC.
var conditionVars = []expression.Var{
	{Name: "request.port", Type: expression.Number},
	{Name: "request.protocol", Type: expression.Text}, // TCP, UDP or *
	{Name: "request.source", Type: expression.Text},   // with its length: 203.0.113.7/32
	{Name: "request.durationMinutes", Type: expression.Number},
	{Name: "request.start", Type: expression.Time},
	{Name: "request.end", Type: expression.Time},
	{Name: "request.justification", Type: expression.Text},
	{Name: "request.ticket", Type: expression.Text},
	{Name: "request.channel", Type: expression.Text}, // queue, http or ticket
	{Name: "requestor.name", Type: expression.Text},
	{Name: "requestor.objectId", Type: expression.Text},
	{Name: "requestor.asserted", Type: expression.Truth},
	{Name: "machine.id", Type: expression.Text},
	{Name: "machine.name", Type: expression.Text},
	{Name: "machine.resourceGroup", Type: expression.Text},
	{Name: "machine.subscription", Type: expression.Text},
	{Name: machineOS, Type: expression.Text},
	{Name: machineLocation, Type: expression.Text},
	{Name: machineTags, Type: expression.TextMap},
	{Name: "now", Type: expression.Time}, // when the grant begins
}

// The variables that are read from the machine.
const (
	machineOS       = "machine.os"
	machineLocation = "machine.location"
	machineTags     = "machine.tags"
)

// conditionEnv is made once: it takes longer than most conditions.
var conditionEnv = sync.OnceValues(func() (*expression.Env, error) { return expression.NewEnv(conditionVars...) })

func compileCondition(text string) (*expression.Program, error) {
	env, err := conditionEnv()
	if err != nil {
		return nil, err
	}
	return env.Compile(text, expression.Truth)
}

func (p AccessPolicy) validateCondition(add func(path, reason, format string, args ...any)) {
	if p.Condition != "" {
		if _, err := compileCondition(p.Condition); err != nil {
			add("condition", "condition_invalid", "%s", access.AsError(err).Message)
		}
	}
	m := p.ConditionMessage
	switch {
	case m == "":
	case p.Condition == "":
		add("conditionMessage", "condition_message_alone", "there is no condition that the message belongs to")
	case strings.TrimSpace(m) == "" || utf8.RuneCountInString(m) > maxConditionMessage || strings.ContainsFunc(m, unicode.IsControl):
		add("conditionMessage", "condition_message_invalid", "the message has 1 to %d characters, none of them a control character", maxConditionMessage)
	}
}

// ConditionUses names what the policy's condition asks of a machine beyond its id:
// "machine.os", "machine.location", "machine.tags". Error: a condition that is not
// valid.
func (p AccessPolicy) ConditionUses() (out []string, err error) {
	if p.Condition == "" {
		return nil, nil
	}
	c, err := compileCondition(p.Condition)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{machineOS, machineLocation, machineTags} {
		if c.Uses(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// conditions runs conditions, each compiled once.
type conditions struct {
	req      access.Request
	begin    time.Time
	compiled map[string]*expression.Program
}

// met says whether the policy's condition holds of one port: nil where it does.
// cause is for the audit alone.
func (c conditions) met(ctx context.Context, p AccessPolicy, g Granted, machines map[access.ResourceID]Machine) (v *access.Violation, cause string) {
	if p.Condition == "" {
		return nil, ""
	}
	holds, err := c.run(ctx, p.Condition, g, machines)
	switch {
	case err != nil:
		return &access.Violation{Path: g.Request.Path, Reason: "condition_failed_closed", Message: "the policy's condition could not be evaluated, and so nothing is granted: tell an administrator of Portcullis"},
			fmt.Sprintf("the condition of the policy at %s failed: %s", p.Scope, faultOf(err))
	case holds:
		return nil, ""
	case p.ConditionMessage != "":
		return &access.Violation{Path: g.Request.Path, Reason: "condition_not_met", Message: p.ConditionMessage}, ""
	}
	return &access.Violation{Path: g.Request.Path, Reason: "condition_not_met", Message: "the policy's condition does not hold of this request: ask an administrator of Portcullis what it demands"}, ""
}

func faultOf(err error) string {
	if f, ok := expression.FaultOf(err); ok {
		return f.String()
	}
	return access.AsError(err).Message
}

func (c conditions) run(ctx context.Context, text string, g Granted, machines map[access.ResourceID]Machine) (bool, error) {
	m, ok := machines[g.Request.VM]
	if !ok {
		return false, access.Errorf(access.Internal, "machine_not_read", "the virtual machine was not read")
	}
	tags, err := expression.Folded(m.Tags)
	if err != nil {
		return false, access.Errorf(access.Internal, "tags_ambiguous", "of the machine's tags %w", err)
	}
	program := c.compiled[text]
	if program == nil {
		if program, err = compileCondition(text); err != nil {
			return false, err
		}
		c.compiled[text] = program
	}
	vm, r := g.Request.VM, c.req
	out, err := program.Run(ctx, map[string]any{
		"request.port": int64(g.Request.Port), "request.protocol": string(g.Protocol), "request.source": g.Request.Source.String(),
		// Rounded up, so that nothing longer than a bound is inside it.
		"request.durationMinutes": int64((g.EndTime.Sub(c.begin) + time.Minute - 1) / time.Minute),
		"request.start":           c.begin.UTC(), "request.end": g.EndTime.UTC(), "now": c.begin.UTC(),
		"request.justification": r.Justification, "request.ticket": r.Ticket, "request.channel": string(r.RequestedBy.Channel),
		"requestor.name": access.FoldName(r.Requestor.Name), "requestor.objectId": access.FoldName(r.Requestor.ObjectID), "requestor.asserted": r.Requestor.Asserted,
		"machine.id": string(vm), "machine.name": vm.Name(), "machine.resourceGroup": vm.ResourceGroup(), "machine.subscription": vm.Subscription(),
		machineOS: m.OS, machineLocation: access.FoldName(m.Location), machineTags: tags,
	})
	if err != nil {
		return false, err
	}
	holds, ok := out.(bool)
	if !ok {
		return false, errors.New("it gives no truth")
	}
	return holds, nil
}

// Machines names the machines of the ports that are left to be granted.
func (v Verdict) Machines() (out []access.ResourceID) {
	for _, g := range v.granted {
		if !slices.Contains(out, g.Request.VM) {
			out = append(out, g.Request.VM)
		}
	}
	return out
}
