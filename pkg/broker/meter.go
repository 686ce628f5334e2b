package broker

import (
	"context"
	"log/slog"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Meter is told what happens, so that people and alarms can see it. It never
// fails and never waits for the network, and nothing that is decided depends on it.
type Meter interface {
	// Measure adds v to a counter, sets a gauge or enters v in a histogram, as the
	// metric's kind says. by names the series; it comes from a small closed set and
	// is never text from outside. "" for a metric without By.
	Measure(ctx context.Context, m Metric, v float64, by string)
	// Span begins a part of the trace that ctx carries. It may say ids, names of
	// NSGs and counts, and no text of anybody's. end is called once, with the outcome
	// and with what became known meanwhile.
	Span(ctx context.Context, name string, about ...slog.Attr) (_ context.Context, end func(err error, more ...slog.Attr))
}

// MetricKind says what becomes of the values of a metric.
type MetricKind string

// The kinds.
const (
	Counter   MetricKind = "counter"
	Gauge     MetricKind = "gauge"
	Lowest    MetricKind = "gauge, the lowest" // since the last export
	Histogram MetricKind = "histogram"
)

// Metric is something that is measured.
type Metric struct {
	Name string
	Kind MetricKind
	Unit string // by UCUM; what is counted stands in braces
	By   string // the attribute that tells its series apart; "" for none
	Doc  string // what it promises
}

// The metrics. Each promise has one; the rest say how well it is kept.
var (
	MetricOverdue    = Metric{"portcullis.closes.overdue", Gauge, "{leg}", "", "Legs that are past their time by two minutes or more, and still there when Sweep has done its work. Nothing stays open: 0."}
	MetricOverdueAge = Metric{"portcullis.closes.overdue.age", Gauge, "s", "", "How long the oldest of them is past its time; 0 for none."}
	MetricUnfinished = Metric{"portcullis.requests.unfinished.age", Gauge, "s", "", "The age of the oldest decision that was not carried out when Sweep came; 0 for none. Nothing is forgotten: less than two minutes."}
	MetricDead       = Metric{"portcullis.dead_letters", Counter, "{message}", "queue", "Messages that could not be processed in all their attempts. Nothing is lost: each is recorded, and there are none."}
	MetricDrift      = Metric{"portcullis.drift", Counter, "{rule}", "change", "Rules of ours that were found otherwise than recorded, and put right: altered (put), left over (remove), or removed by others, which ends their grant (missing). What is recorded is what stands: 0, unless somebody edits our rules."}
	MetricRefused    = Metric{"portcullis.identities.refused", Counter, "{call}", "reason", "Calls that were answered 401, by the reason and never by a name. Nobody asks in another's name."}
	MetricQuota      = Metric{"portcullis.arm.quota.remaining", Lowest, "{call}", "quota", "What Resource Manager says is left of a quota. No close waits for a quota that was used up: well above 0."}
	MetricHeartbeat  = Metric{"portcullis.heartbeat", Counter, "{run}", "job", "Runs of Sweep and Scan that ended well. Somebody looks: every minute, and every 15 minutes."}
	MetricOpening    = Metric{"portcullis.open.latency", Histogram, "s", "", "From the decision about a request (about its start, if it was scheduled) until a leg is seen open."}
	MetricClosing    = Metric{"portcullis.close.latency", Histogram, "s", "", "From the time at which an open leg was to be shut until it is seen shut."}
	MetricRounds     = Metric{"portcullis.reconcile.rounds", Counter, "{round}", "", "Rounds of reconciles: one reads an NSG and writes it where that is needed."}
	MetricWrites     = Metric{"portcullis.nsg.writes", Counter, "{write}", "write", "Writes that Resource Manager took: of a whole NSG (put), of a single rule (delete, deny)."}
)

// Metrics lists every metric.
func Metrics() []Metric {
	return []Metric{
		MetricOverdue, MetricOverdueAge, MetricUnfinished, MetricDead, MetricDrift, MetricRefused, MetricQuota, MetricHeartbeat,
		MetricOpening, MetricClosing, MetricRounds, MetricWrites,
	}
}

// meteredGroups counts the writes that were taken.
type meteredGroups struct {
	Groups
	meter Meter
}

func (g meteredGroups) count(ctx context.Context, err error, write string) error {
	if err == nil {
		g.meter.Measure(ctx, MetricWrites, 1, write)
	}
	return err
}

// Apply implements Groups.
func (g meteredGroups) Apply(ctx context.Context, group nsg.Group, plan nsg.Plan) error {
	return g.count(ctx, g.Groups.Apply(ctx, group, plan), "put")
}

// DeleteRule implements Groups.
func (g meteredGroups) DeleteRule(ctx context.Context, id access.ResourceID, name string) error {
	return g.count(ctx, g.Groups.DeleteRule(ctx, id, name), "delete")
}

// DenyRule implements Groups.
func (g meteredGroups) DenyRule(ctx context.Context, id access.ResourceID, rule nsg.Rule) error {
	return g.count(ctx, g.Groups.DenyRule(ctx, id, rule), "deny")
}

// decidedAt is when it was last decided that the request's doors are to open.
func decidedAt(f access.File) time.Time {
	if f.Start != nil {
		return f.Start.At
	}
	return f.Record.DecidedAt
}

// lateness counts what is late, and keeps the oldest.
type lateness struct {
	now   time.Time
	n     int
	since time.Time
	of    string
}

func (l *lateness) add(since time.Time, of string) {
	if l.n++; l.n == 1 || since.Before(l.since) {
		l.since, l.of = since, of
	}
}

// age is that of the oldest; 0 for none.
func (l *lateness) age() time.Duration {
	if l.n == 0 {
		return 0
	}
	return l.now.Sub(l.since)
}
