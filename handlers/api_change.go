package handlers

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// changeDoc is a policy's change as the API shows it.
type changeDoc struct {
	Policy           json.RawMessage `json:"policy,omitempty"`
	NotAllowedGrants []grantDoc      `json:"notAllowedGrants"`
	Machines         []machineDoc    `json:"machines"`
}

type grantDoc struct {
	RequestID      access.RequestID  `json:"requestId"`
	Index          int               `json:"index"`
	VirtualMachine access.ResourceID `json:"virtualMachine"`
	Port           int               `json:"port"`
	Requestor      string            `json:"requestor"`
	EndTimeUTC     time.Time         `json:"endTimeUtc"`
	Why            []string          `json:"why"`
}

type machineDoc struct {
	ID          access.ResourceID `json:"id"`
	Groups      []groupDoc        `json:"networkSecurityGroups"`
	Unsupported string            `json:"unsupported,omitempty"`
}

type groupDoc struct {
	ID        access.ResourceID `json:"id"`
	Put       []ruleDoc         `json:"put"`
	Remove    []string          `json:"remove"`
	Past      []adviceDoc       `json:"past"`
	Blocking  []adviceDoc       `json:"blocking"`
	CutOff    []cutDoc          `json:"cutOff"`
	BlockedBy string            `json:"blockedBy,omitempty"`
}

type ruleDoc struct {
	Name         string   `json:"name"`
	Priority     int      `json:"priority"`
	Access       string   `json:"access"`
	Protocol     string   `json:"protocol"`
	Sources      []string `json:"sources"`
	Destinations []string `json:"destinations"`
	Ports        []string `json:"ports"`
}

type adviceDoc struct {
	Rule     string `json:"rule"`
	Priority int    `json:"priority"`
	Advice   string `json:"advice"`
}

type cutDoc struct {
	What   string `json:"what"`
	Advice string `json:"advice"`
}

func changeView(c broker.PolicyChange) changeDoc {
	out := changeDoc{NotAllowedGrants: []grantDoc{}, Machines: []machineDoc{}}
	if c.Policy.Scope != "" {
		// One that was just stored or checked can be encoded.
		if data, err := accessjson.EncodePolicy(c.Policy); err == nil {
			out.Policy = data
		}
	}
	for _, g := range c.NotAllowed {
		d := grantDoc{g.Request, g.Grant.Index, g.Grant.VM, int(g.Grant.Port), g.Requestor.Name, g.Grant.EndTime.UTC(), []string{}}
		for _, v := range g.Violations {
			d.Why = append(d.Why, fmt.Sprintf("%s: %s", v.Reason, v.Message))
		}
		out.NotAllowedGrants = append(out.NotAllowedGrants, d)
	}
	for _, m := range c.Machines {
		d := machineDoc{m.VM, []groupDoc{}, m.Unsupported}
		for _, g := range m.Groups {
			d.Groups = append(d.Groups, groupView(g))
		}
		out.Machines = append(out.Machines, d)
	}
	return out
}

func groupView(g broker.GroupPlan) groupDoc {
	d := groupDoc{ID: g.NSG, Put: []ruleDoc{}, Remove: []string{}, Past: advice(g.Past), Blocking: advice(g.Blocking), CutOff: []cutDoc{}, BlockedBy: g.BlockedBy}
	for _, r := range g.Put {
		d.Put = append(d.Put, ruleDoc{r.Name, r.Priority, string(r.Access), r.Protocol, r.Sources, r.Destinations, r.DestinationPorts})
	}
	d.Remove = append(d.Remove, g.Remove...)
	for _, c := range g.CutOff {
		d.CutOff = append(d.CutOff, cutDoc(c))
	}
	return d
}

func advice(list []broker.Advice) []adviceDoc {
	out := []adviceDoc{}
	for _, a := range list {
		out = append(out, adviceDoc{a.Rule.Name, a.Rule.Priority, a.Advice})
	}
	return out
}
