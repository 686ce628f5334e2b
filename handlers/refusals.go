package handlers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/broker"
)

// A burst is what a person's expired sign-in never makes: that many calls within
// the time whose tokens or signatures are not valid here at all.
const (
	burstOf     = 20
	burstWithin = time.Minute
)

// Refusals counts the calls that are answered 401. It is safe for concurrent use.
type Refusals struct {
	meter broker.Meter
	clock broker.Clock
	log   *slog.Logger

	mu    sync.Mutex
	since time.Time
	n     int
}

// NewRefusals makes a Refusals; every part is required.
func NewRefusals(meter broker.Meter, clock broker.Clock, log *slog.Logger) (*Refusals, error) {
	if meter == nil || clock == nil || log == nil {
		return nil, errors.New("handlers: the count of refusals lacks a part")
	}
	return &Refusals{meter: meter, clock: clock, log: log}, nil
}

// note counts one, by its reason. An alarm is told once for each time span that
// has a burst: who calls can make up as many tokens as they like, but not as many
// lines.
func (r *Refusals) note(ctx context.Context, reason string) {
	r.meter.Measure(ctx, broker.MetricRefused, 1, reason)
	if reason == "token_missing" || reason == "token_expired" {
		return // a page that is opened, a session that is over
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.clock(); now.Sub(r.since) >= burstWithin {
		r.since, r.n = now, 0
	}
	if r.n++; r.n == burstOf {
		r.log.WarnContext(ctx, "ALARM many calls whose caller is not believed", "alarm", "refused_identity", "calls", r.n, "since", r.since, "reason", reason)
	}
}
