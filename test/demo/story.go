package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

const (
	us      = "203.0.113.7"  // who asks
	other   = "203.0.113.8"  // somebody else, inside the policy's range
	outside = "198.51.100.9" // outside the policy's range
	lease   = 8 * time.Second
)

// story holds what the steps share.
type story struct {
	stack   *stack
	start   time.Time
	token   string
	bus     *azservicebus.Client
	groups  []access.ResourceID // the subnet's NSG, then the NIC's
	read    func(context.Context, access.ResourceID) (nsg.Group, error)
	rules   nsg.Settings
	vm      string
	target  netip.Addr
	cred    *azidentity.ManagedIdentityCredential
	persons persons
	// hers is alice's latest request.
	hers string
	// waiting is the request that is open.
	waiting string

	customers map[access.ResourceID]string
	writes    int
	asked     time.Time
	openedIn  time.Duration
	deadline  time.Time
	closedIn  time.Duration
}

func (d *story) title(s string) { fmt.Printf("\n%7s  %s\n", d.at(), s) }

func (d *story) say(format string, args ...any) {
	fmt.Printf("%7s    %s\n", d.at(), fmt.Sprintf(format, args...))
}

func (d *story) at() string { return fmt.Sprintf("%.1fs", time.Since(d.start).Seconds()) }

func (d *story) before(ctx context.Context) error {
	if d.customers = map[access.ResourceID]string{}; len(d.groups) != 2 {
		return fmt.Errorf("web-1 should stand behind two network security groups, not %d", len(d.groups))
	}
	for _, id := range d.groups {
		rules, err := d.customerRules(ctx, id)
		if err != nil {
			return err
		}
		d.customers[id] = rules
	}
	var err error
	if d.writes, err = d.nsgWrites(ctx); err != nil {
		return err
	}
	return d.expect(ctx, us, nsg.OutcomeDenied)
}

func (d *story) refused(ctx context.Context) error {
	id := "demo-" + strings.ToLower(rand.Text()[:8])
	d.say("posted to access-requests: %s asks for web-1:22 from %s", "alice@contoso.com", outside)
	if err := d.post(ctx, id, outside); err != nil {
		return err
	}
	v, err := d.await(ctx, id, "Refused")
	if err != nil {
		return err
	}
	if v.Refusal.Reason != "source_outside_policy" || len(v.Refusal.Violations) != 1 {
		return fmt.Errorf("the refusal should name source_outside_policy, not %+v", *v.Refusal)
	}
	d.say("refused: %s", v.Refusal.Violations[0].Message)
	if err := d.rejected(ctx, id); err != nil {
		return err
	}
	d.say("the message is kept on access-rejected for its owner")
	writes, err := d.nsgWrites(ctx)
	if err != nil {
		return err
	}
	if writes != d.writes {
		return fmt.Errorf("nothing should have been written, but %d writes were", writes-d.writes)
	}
	return d.expect(ctx, us, nsg.OutcomeDenied)
}

func (d *story) opened(ctx context.Context) error {
	id := "demo-" + strings.ToLower(rand.Text()[:8])
	d.say("posted to access-requests: alice@contoso.com asks for web-1:22 from %s for %s", us, lease)
	d.asked = time.Now()
	if err := d.post(ctx, id, us); err != nil {
		return err
	}
	v, err := d.await(ctx, id, "Initiated")
	if err != nil {
		return err
	}
	d.openedIn = time.Since(d.asked)
	d.deadline = v.VirtualMachines[0].Ports[0].EndTimeUTC
	d.say("Initiated, until %s", d.deadline.Format(time.TimeOnly))
	for _, group := range d.groups {
		rules, err := d.ours(ctx, group)
		if err != nil {
			return err
		}
		if len(rules) != 1 {
			return fmt.Errorf("%s should hold one rule of ours, not %d", group.Name(), len(rules))
		}
		d.say("in %-15s rule %s (priority %d)", group.Name(), rules[0].Name, rules[0].Priority)
	}
	if err := d.expect(ctx, us, nsg.OutcomeAllowed); err != nil {
		return err
	}
	if err := d.expect(ctx, other, nsg.OutcomeDenied); err != nil {
		return err
	}
	d.waiting = id
	return nil
}

func (d *story) closed(ctx context.Context) error {
	v, err := d.await(ctx, d.waiting, "Revoked")
	if err != nil {
		return err
	}
	d.closedIn = time.Since(d.deadline)
	if p := v.VirtualMachines[0].Ports[0]; p.StatusReason != string(access.Expired) {
		return fmt.Errorf("the reason should be Expired, not %q", p.StatusReason)
	}
	d.say("the delayed message arrived: Revoked, Expired")
	for _, group := range d.groups {
		rules, err := d.ours(ctx, group)
		if err != nil {
			return err
		}
		if len(rules) != 0 {
			return fmt.Errorf("%s should hold no rule of ours any more, but holds %s", group.Name(), rules[0].Name)
		}
	}
	d.say("no rule of ours is left in either group")
	return d.expect(ctx, us, nsg.OutcomeDenied)
}

func (d *story) untouched(ctx context.Context) error {
	for _, id := range d.groups {
		now, err := d.customerRules(ctx, id)
		if err != nil {
			return err
		}
		if now != d.customers[id] {
			return fmt.Errorf("the rules of %s were\n%s\nand are\n%s", id.Name(), d.customers[id], now)
		}
		d.say("%s: byte for byte what they were", id.Name())
	}
	writes, err := d.nsgWrites(ctx)
	if err != nil {
		return err
	}
	d.writes = writes - d.writes
	return nil
}

func (d *story) summary() {
	fmt.Printf("\nweb-1:22 opened in %.1f s, closed %.1f s after expiry, %d NSG writes.\n",
		d.openedIn.Seconds(), d.closedIn.Seconds(), d.writes)
}

// expect evaluates both groups of the path for traffic to web-1:22.
func (d *story) expect(ctx context.Context, from string, want nsg.Outcome) error {
	return d.expectOn(ctx, 22, from, want)
}

func (d *story) expectOn(ctx context.Context, port uint16, from string, want nsg.Outcome) error {
	flow := nsg.Flow{Source: netip.PrefixFrom(netip.MustParseAddr(from), 32), Destination: d.target, Port: port, Protocol: access.TCP}
	var told []string
	got := nsg.OutcomeAllowed
	for _, id := range d.groups {
		g, err := d.read(ctx, id)
		if err != nil {
			return err
		}
		v := g.Evaluate(flow)
		told = append(told, id.Name()+": "+v.String())
		if got == nsg.OutcomeAllowed {
			got = v.Outcome
		}
	}
	if got != want {
		return fmt.Errorf("%s → web-1:%d should be %s: %s", from, port, want, strings.Join(told, "; "))
	}
	d.say("%s → web-1:%d is %s", from, port, strings.ToUpper(string(got)))
	for _, t := range told {
		d.say("   %s", t)
	}
	return nil
}

func (d *story) ours(ctx context.Context, id access.ResourceID) ([]nsg.Rule, error) {
	g, err := d.read(ctx, id)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(g.Rules), func(r nsg.Rule) bool { return !d.rules.Owns(r) }), nil
}

func (d *story) post(ctx context.Context, id, source string) error {
	body, err := json.Marshal(map[string]any{
		"id": id, "requestor": "alice@contoso.com", "justification": "look at the logs",
		"virtualMachines": []any{map[string]any{"id": d.vm, "ports": []any{map[string]any{
			"number": 22, "allowedSourceAddressPrefix": source, "duration": access.FormatDuration(lease),
		}}}},
	})
	if err != nil {
		return err
	}
	sender, err := d.bus.NewSender("access-requests", nil)
	if err != nil {
		return err
	}
	err = sender.SendMessage(ctx, &azservicebus.Message{Body: body}, nil)
	return errors.Join(err, sender.Close(ctx))
}

// rejected takes the message about our request from access-rejected.
func (d *story) rejected(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := d.bus.NewReceiverForQueue("access-rejected", nil)
	if err != nil {
		return err
	}
	defer r.Close(context.WithoutCancel(ctx))
	for {
		messages, err := r.ReceiveMessages(ctx, 1, nil)
		if err != nil {
			return fmt.Errorf("nothing about %s on access-rejected: %w", id, err)
		}
		for _, m := range messages {
			if err := r.CompleteMessage(ctx, m, nil); err != nil {
				return err
			}
			if strings.Contains(string(m.Body), "source_outside_policy") {
				return nil
			}
		}
	}
}

// customerRules gives the bytes of every rule that is not ours, as Resource
// Manager tells them, but for the ETag, which is the group's.
func (d *story) customerRules(ctx context.Context, id access.ResourceID) (string, error) {
	body, err := d.raw(ctx, string(id)+"?api-version=2025-05-01")
	if err != nil {
		return "", err
	}
	var group struct {
		Properties struct {
			SecurityRules []struct {
				Name       string          `json:"name"`
				Properties json.RawMessage `json:"properties"`
			} `json:"securityRules"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(body, &group); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range group.Properties.SecurityRules {
		if !d.rules.Owns(nsg.Rule{Name: r.Name, Direction: nsg.Inbound}) {
			fmt.Fprintf(&b, "%s %s\n", r.Name, r.Properties)
		}
	}
	return b.String(), nil
}

func (d *story) nsgWrites(ctx context.Context) (int, error) {
	body, err := d.raw(ctx, "/_local/stats")
	if err != nil {
		return 0, err
	}
	var stats struct {
		Writes int `json:"nsgWrites"`
	}
	return stats.Writes, json.Unmarshal(body, &stats)
}

func (d *story) raw(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.stack.env["ARM_ENDPOINT"]+path, nil)
	if err != nil {
		return nil, err
	}
	token, err := d.armToken(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, body)
	}
	return body, err
}
