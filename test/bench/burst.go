package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// burstOptions are bursts on one stack.
type burstOptions struct {
	grants, naive int
	latency       time.Duration
	cases         []burstCase
	// batched puts the largest batch beside them too.
	batched bool
}

// burstCase is a burst over so many machines, repeated so often.
type burstCase struct {
	machines, bursts int
	lease            time.Duration // of the grants, from the first send
}

const (
	// watchEvery is how often the group and the ledger are looked at.
	watchEvery = 20 * time.Millisecond
	// burstLimit ends the wait for what does not come.
	burstLimit = 2 * time.Minute
)

// measureBurst sends requests for one group all at once through the whole path,
// queue, host, handler and Resource Manager, beside a worker that writes one
// rule per grant, in turn.
func measureBurst(ctx context.Context, o options, b burstOptions, log io.Writer) (_ []*measure, _ []string, err error) {
	machines, bursts := 0, 0
	for _, c := range b.cases {
		machines, bursts = max(machines, c.machines), bursts+c.bursts
	}
	if bursts == 0 {
		return nil, nil, nil
	}
	if b.grants < 1 || machines < 1 || b.naive < 1 {
		return nil, nil, errors.New("a burst needs grants, machines and a baseline")
	}
	s, err := startLocal(ctx, o, o.app, machines, b.latency, log)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	beside := besides{}
	if beside.naive, err = newNaive(s); err != nil {
		return nil, nil, err
	}
	if beside.batch, err = newBatch(s); err != nil {
		return nil, nil, err
	}
	var all []*measure
	var reads []string
	for _, c := range b.cases {
		if c.bursts < 1 {
			continue
		}
		m, told, err := burstBeside(ctx, s, o, beside, b, c)
		if err != nil {
			return nil, nil, err
		}
		all, reads = append(all, m...), append(reads, told)
	}
	return all, []string{b.tell() + " Ours made " + strings.Join(reads, ", and ") + ", from the first send to the last close."}, nil
}

// besides are the workers that the bursts are put beside.
type besides struct {
	naive *naive
	batch *batch
}

func burstBeside(ctx context.Context, s *local, o options, beside besides, b burstOptions, c burstCase) ([]*measure, string, error) {
	w, err := newWatch(s, o, b.grants, c)
	if err != nil {
		return nil, "", err
	}
	m := newBurstMeasures(b, c.machines, b.besideNaive())
	batched := newBurstMeasures(b, c.machines, fmt.Sprintf("one write of the largest batch without packing: %d rules, all known beforehand", largestBatch))
	for range c.bursts {
		ours, err := w.burst(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("a burst over %d machines: %w", c.machines, err)
		}
		naive, err := beside.naive.work(ctx, b)
		if err != nil {
			return nil, "", fmt.Errorf("the naive worker: %w", err)
		}
		m.add(ours, naive)
		if b.batched {
			r, err := beside.batch.work(ctx, c.machines)
			if err != nil {
				return nil, "", fmt.Errorf("the largest batch: %w", err)
			}
			batched.add(ours, r)
			batched.held.add(float64(b.grants), largestBatch)
		}
	}
	list := m.list()
	if b.batched {
		list = append(list, append(batched.list(), &batched.held)...)
	}
	return list, fmt.Sprintf("%s reads of Resource Manager for %d requests and %d machines%s", digits(spreadOf(m.reads).median), b.grants, c.machines, tellCosts(m.costs, b.grants)), nil
}

func (b burstOptions) tell() string {
	told := fmt.Sprintf("The bursts: %d requests for port 22 of machines behind one network security group whose writes take %s, by five people in turn, each from an address of its own, all until the same second.",
		b.grants, b.latency)
	if b.naive != b.grants {
		told += fmt.Sprintf(" The worker beside them is strictly serial: it opened and closed %d grants in each pair, and its figures are those times %g.",
			b.naive, float64(b.grants)/float64(b.naive))
	}
	return told
}

// result is what one burst took.
type result struct {
	openWrites, closeWrites int
	reads                   int           // of Resource Manager, all told
	open, recordedOpen      time.Duration // from the first send
	closed, recordedClosed  time.Duration // from the deadline
	costs                   [2]cost       // of the handler, to open and to close
}

type burstMeasures struct {
	openWrites, closeWrites, opened, recorded, closed, recordedClosed measure
	held                                                              measure // beside the batch alone
	reads                                                             []float64
	costs                                                             [][2]cost
}

func (b burstOptions) besideNaive() string {
	beside := "one child write per grant in turn"
	if b.naive != b.grants {
		beside += fmt.Sprintf(", %d done and told for %d", b.naive, b.grants)
	}
	return beside
}

func newBurstMeasures(b burstOptions, machines int, beside string) *burstMeasures {
	prefix := fmt.Sprintf("%d requests, %d machines: ", b.grants, machines)
	return &burstMeasures{
		held:           measure{name: prefix + "grants open at one time", baseline: beside, unit: count},
		openWrites:     measure{name: prefix + "NSG writes to open", baseline: beside, unit: count},
		closeWrites:    measure{name: prefix + "NSG writes to close", baseline: beside, unit: count},
		opened:         measure{name: prefix + "first send to last open on the NSG", baseline: beside, unit: seconds},
		recorded:       measure{name: "… to last recorded as Initiated", baseline: beside, unit: seconds},
		closed:         measure{name: prefix + "deadline to last closed on the NSG", baseline: beside, unit: seconds},
		recordedClosed: measure{name: "… to last recorded as Revoked", baseline: beside, unit: seconds},
	}
}

func (m *burstMeasures) add(r result, n naiveResult) {
	m.openWrites.add(float64(r.openWrites), n.openWrites)
	m.closeWrites.add(float64(r.closeWrites), n.closeWrites)
	m.reads, m.costs = append(m.reads, float64(r.reads)), append(m.costs, r.costs)
	m.opened.add(r.open.Seconds(), n.open)
	m.recorded.add(r.recordedOpen.Seconds(), n.open)
	m.closed.add(r.closed.Seconds(), n.closed)
	m.recordedClosed.add(r.recordedClosed.Seconds(), n.closed)
}

func (m *burstMeasures) list() []*measure {
	return []*measure{&m.openWrites, &m.closeWrites, &m.opened, &m.recorded, &m.closed, &m.recordedClosed}
}
