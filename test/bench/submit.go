package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
)

// Resource Manager lets a principal read 250 times at once and 25 times a
// second after that; more pairs that read the machine would measure its
// throttling.
const maxFreshPairs = 25

// measureSubmit decides one port of one machine behind one group, through the
// adapters, beside the calls that no way of doing it can do without.
func measureSubmit(ctx context.Context, s *local, pairs int) ([]*measure, []string, error) {
	fresh, err := submitBeside(ctx, s, "the machine is read afresh", 0, min(pairs, maxFreshPairs))
	if err != nil {
		return nil, nil, err
	}
	known, err := submitBeside(ctx, s, "the machine was read in the last 10 s", time.Hour, pairs)
	if err != nil {
		return nil, nil, err
	}
	return append(fresh.measures, known.measures...), []string{fresh.told, known.told}, nil
}

type submitResult struct {
	measures []*measure
	told     string
}

// submitBeside measures with a machine's reads kept for the age.
func submitBeside(ctx context.Context, s *local, how string, age time.Duration, pairs int) (submitResult, error) {
	noted := &calls{}
	submitter, sender, err := noteSubmitter(s, noted, age)
	if err != nil {
		return submitResult{}, err
	}
	defer sender.Close(context.WithoutCancel(ctx))
	plain := &calls{}
	bare, err := newBare(s, plain, age == 0)
	if err != nil {
		return submitResult{}, err
	}
	defer bare.close(context.WithoutCancel(ctx))
	took := &measure{name: "Submit, " + how, unit: milliseconds}
	var ours, base []string
	for i := range pairs + 1 {
		a, err := timed(func() error { return submitOnce(ctx, submitter) })
		if err != nil {
			return submitResult{}, fmt.Errorf("submit: %w", err)
		}
		b, err := timed(func() error { return bare.submit(ctx) })
		if err != nil {
			return submitResult{}, fmt.Errorf("the bare calls: %w", err)
		}
		ours, base = noted.take(), plain.take()
		if i == 0 {
			continue // tokens are fetched and connections made
		}
		took.add(milliseconds.in(a), milliseconds.in(b))
	}
	more, ok := extra(ours, base)
	if !ok {
		return submitResult{}, fmt.Errorf("the bare calls are no longer those of Submit: %q beside %q", base, ours)
	}
	took.baseline = fmt.Sprintf("the %d bare SDK calls it cannot avoid, in turn", len(base))
	n := &measure{name: "… its calls", baseline: "those", unit: count, ours: []float64{float64(len(ours))}, base: []float64{float64(len(base))}}
	told := fmt.Sprintf("Submit, %s. It cannot avoid %d calls: %s.", how, len(base), strings.Join(base, ", "))
	if len(more) > 0 {
		told += fmt.Sprintf(" It makes %d more: %s.", len(more), strings.Join(more, ", "))
	}
	return submitResult{[]*measure{took, n}, told}, nil
}

// timed collects garbage first, so that one side does not pay for the other.
func timed(f func() error) (time.Duration, error) {
	runtime.GC()
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// noteSubmitter wires Submit as the handler does, noting its calls.
func noteSubmitter(s *local, noted *calls, age time.Duration) (*broker.Submitter, *servicebus.Sender, error) {
	store, err := s.tableStore(noted)
	if err != nil {
		return nil, nil, err
	}
	azure, err := network.New(minted{s.Stack}, s.armOptions(noted), time.Now)
	if err != nil {
		return nil, nil, err
	}
	bus, err := s.bus()
	if err != nil {
		return nil, nil, err
	}
	unseen, err := telemetry.New(context.Background(), telemetry.Settings{}, slog.New(slog.DiscardHandler)) // as without an endpoint
	if err != nil {
		return nil, nil, err
	}
	sender, err := servicebus.New(bus, servicebus.Queues{Requests: "access-requests", Reconcile: "nsg-reconcile", Rejected: "access-rejected", EventOutbox: "event-outbox", Events: "access-events"}, unseen)
	if err != nil {
		return nil, nil, err
	}
	submitter, err := broker.NewSubmitter(broker.SubmitPorts{
		Policies: store, Requests: store, Files: store, Marks: store, Index: store, Starts: store, Events: store, Lockdowns: store, Tickets: store,
		Ledger: store, Machines: azure, Prompts: notedPrompts{sender, noted}, StartPrompts: sender, Clock: time.Now, Token: uuid.NewString, Meter: unseen,
	}, broker.SubmitSettings{
		ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute, SnapshotAge: age,
		MaxLiveGrants: manyGrants, MaxRequestsPerHour: manyGrants,
	})
	return submitter, sender, err
}

// manyGrants is more than one requestor of the bench ever asks for.
const manyGrants = 1000

// oneRequest asks for port 22 of the first machine.
func oneRequest() (access.Request, error) {
	vm, err := access.ParseVM(vmScope + vmName(0))
	id := uuid.NewString()
	return access.Request{
		ClientID: id, Requestor: access.Requestor{Name: "alice@contoso.com", Asserted: true},
		RequestedBy: access.Sender{Channel: access.ChannelQueue, Principal: "access-requests"}, Justification: "look at the logs", BodyHash: id,
		Ports: []access.PortRequest{{VM: vm, Port: 22, Source: netip.MustParsePrefix(source(0) + "/32"), Duration: time.Hour, Path: "virtualMachines[0].ports[0]"}},
	}, err
}

func submitOnce(ctx context.Context, s *broker.Submitter) error {
	req, err := oneRequest()
	if err != nil {
		return err
	}
	rec, err := s.Submit(ctx, req)
	if err == nil && (rec.Outcome != access.Accepted || len(rec.Legs()) != 1) {
		err = fmt.Errorf("the request was not accepted with one leg: %+v", rec)
	}
	return err
}
