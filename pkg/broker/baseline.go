package broker

import (
	"context"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// settleBaselines records what is now seen of the baselines on the NSG that
// was read back.
func (w *round) settleBaselines(ctx context.Context, group nsg.Group, rows []access.Baseline, plan nsg.Plan, now time.Time) error {
	blocked := map[access.ResourceID]string{}
	for _, u := range plan.Unshut {
		blocked[u.VM] = u.BlockedBy
	}
	var changed, shut, lifted []access.Baseline
	for _, row := range rows {
		before := row
		row.BlockedBy = blocked[row.VM]
		if w.leavesBaselines != "" {
			row.BlockedBy = w.leavesBaselines
		}
		gone := w.rules.Lifted(group, row, rows)
		switch {
		case row.State == access.BaselineLifting && gone:
			lifted = append(lifted, row)
			continue
		case row.State == access.BaselineLifting:
		case w.rules.Shut(group, row):
			if row.State != access.BaselineShut {
				row.State, row.ShutAt = access.BaselineShut, now
				shut = append(shut, row)
			}
			if gone {
				row.Release = nil
			}
		}
		if row.State != before.State || row.BlockedBy != before.BlockedBy || len(row.Release) != len(before.Release) {
			changed = append(changed, row)
		}
	}
	// The denies stand already: what fails here is repeated.
	var events []access.Event
	for _, row := range shut {
		events = append(events, baselineEvent(access.EventBaselineShut, row, now))
	}
	if len(events) > 0 {
		if err := w.Events.Append(ctx, events); err != nil {
			return err
		}
	}
	for len(changed) > 0 {
		n := min(len(changed), access.MaxPorts)
		if err := w.Baselines.SaveBaselines(ctx, w.id, changed[:n], "", time.Time{}); err != nil {
			return err
		}
		changed = changed[n:]
	}
	return w.endBaselines(ctx, lifted, now)
}

func (w *round) endBaselines(ctx context.Context, rows []access.Baseline, now time.Time) error {
	if len(rows) == 0 {
		return nil
	}
	var events []access.Event
	for _, row := range rows {
		events = append(events, baselineEvent(access.EventBaselineLifted, row, now))
	}
	if err := w.Events.Append(ctx, events); err != nil {
		return err
	}
	return w.Baselines.EndBaselines(ctx, w.id, rows)
}

func baselineEvent(kind access.EventKind, row access.Baseline, at time.Time) access.Event {
	var ports, addresses []string
	for _, p := range row.Ports {
		ports = append(ports, p.String())
	}
	for _, d := range row.Destinations {
		addresses = append(addresses, d.String())
	}
	return access.Event{
		Subject: string(row.NSG), Kind: kind, At: at, Actor: "portcullis", Key: string(row.VM) + "-" + at.UTC().Format(time.RFC3339),
		Detail: map[string]string{
			"vm": string(row.VM), "nsg": string(row.NSG), "ports": strings.Join(ports, ","), "addresses": strings.Join(addresses, ","), "scope": string(row.Scope),
		},
	}
}
