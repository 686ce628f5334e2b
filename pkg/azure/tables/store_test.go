package tables_test

import (
	"encoding/base64"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	local "github.com/portcullis-access/portcullis/pkg/localazure/tables"
	accesspolicy "github.com/portcullis-access/portcullis/pkg/policy"
)

var (
	_ broker.Policies        = (*tables.Store)(nil)
	_ broker.Requests        = (*tables.Store)(nil)
	_ broker.PendingRequests = (*tables.Store)(nil)
	_ broker.Files           = (*tables.Store)(nil)
	_ broker.Marks           = (*tables.Store)(nil)
	_ broker.Starts          = (*tables.Store)(nil)
	_ broker.Index           = (*tables.Store)(nil)
	_ broker.Lockdowns       = (*tables.Store)(nil)
	_ broker.History         = (*tables.Store)(nil)
	_ broker.Ledger          = (*tables.Store)(nil)
	_ broker.LegWriter       = (*tables.Store)(nil)
	_ broker.Heads           = (*tables.Store)(nil)
	_ broker.Events          = (*tables.Store)(nil)
	_ broker.Tickets         = (*tables.Store)(nil)
)

const (
	group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod"
	vm    = access.ResourceID(group + "/providers/microsoft.compute/virtualmachines/web-1")
	on    = access.ResourceID(group + "/providers/microsoft.network/networksecuritygroups/n")
)

var at = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

func store(t *testing.T) *tables.Store {
	t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte("key"))
	h, err := local.New(local.Config{Account: "acc", Key: key, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewTLSServer(h)
	t.Cleanup(web.Close)
	cred, err := aztables.NewSharedKeyCredential("acc", key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := aztables.NewServiceClientWithSharedKey(web.URL+"/acc", cred, &aztables.ClientOptions{ClientOptions: policy.ClientOptions{Transport: web.Client()}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tables.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is no error
		if err := s.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func leg(n int) access.Leg {
	return access.Leg{
		Request: "ar-aaaaaaaaaaaaaaaaaaaaaaaaaa", Grant: n, NSG: on, VM: vm, Destinations: []netip.Addr{netip.MustParseAddr("10.0.1.4")},
		Source: netip.MustParsePrefix("203.0.113.7/32"), Port: 22, Protocol: access.TCP, EndTime: at.Add(time.Hour), State: access.LegOpening,
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADecisionIsWrittenOnce(t *testing.T) {
	s := store(t)
	rec := access.Record{ID: leg(0).Request, Outcome: access.Accepted, DecidedAt: at}
	for i := range 50 {
		g := access.Grant{Index: i, VM: vm, Source: leg(i).Source, Legs: []access.Leg{leg(i), leg(i)}}
		g.PolicyVersion = strings.Repeat("ü", 600) // more than one property may hold, all together
		rec.Grants = append(rec.Grants, g)
	}
	if _, _, err := s.Find(t.Context(), rec.ID); access.CodeOf(err) != access.NotFound {
		t.Fatal(err)
	}
	_, pending, err := s.Begin(t.Context(), rec)
	check(t, err)
	if !pending {
		t.Error("not pending")
	}
	other := rec
	other.Outcome = access.Refused
	if stored, _, err := s.Begin(t.Context(), other); err != nil || stored.Outcome != access.Accepted || len(stored.Grants) != 50 || stored.Grants[49].PolicyVersion != rec.Grants[49].PolicyVersion {
		t.Errorf("a second decision: %v %d grants, %v", stored.Outcome, len(stored.Grants), err)
	}
	if p, err := s.Pending(t.Context(), at); err != nil || len(p) != 0 {
		t.Errorf("too early: %d, %v", len(p), err)
	}
	if p, err := s.Pending(t.Context(), at.Add(time.Second)); err != nil || len(p) != 1 {
		t.Errorf("pending: %d, %v", len(p), err)
	}
	event := access.Event{Subject: string(rec.ID), Kind: access.EventRequested, At: at}
	for range 2 {
		_, err := s.Keep(t.Context(), rec, []access.Event{event})
		check(t, err)
		check(t, s.Append(t.Context(), []access.Event{event}))
		check(t, s.Finish(t.Context(), rec.ID))
	}
	if stored, pending, err := s.Begin(t.Context(), other); err != nil || pending || stored.Outcome != access.Accepted {
		t.Errorf("after it was finished: %v %v %v", stored.Outcome, pending, err)
	}
	if events, err := s.EventsOf(t.Context(), string(rec.ID)); err != nil || len(events) != 1 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

func TestLegsAndTheirHead(t *testing.T) {
	s, ctx := store(t), t.Context()
	check(t, s.AddLegs(ctx, on, []access.Leg{leg(0)}, "t1", at))
	legs, err := s.Legs(ctx, on)
	check(t, err)
	legs[0].State = access.LegOpen
	check(t, s.UpdateLegs(ctx, on, legs))
	if err := s.UpdateLegs(ctx, on, legs); access.CodeOf(err) != access.Aborted {
		t.Errorf("a stale leg: %v", err)
	}
	// A repeat adds what is missing and leaves what is there.
	check(t, s.AddLegs(ctx, on, []access.Leg{leg(0), leg(1)}, "t2", at))
	legs, err = s.Legs(ctx, on)
	check(t, err)
	if len(legs) != 2 || legs[0].State != access.LegOpen || legs[1].State != access.LegOpening {
		t.Fatalf("%+v", legs)
	}
	h, err := s.Head(ctx, on)
	check(t, err)
	if h.Wanted != "t2" || !h.DueAt.Equal(at) || h.ETag == "" {
		t.Errorf("%+v", h)
	}
	stale := h
	h.Done, h.DueAt, h.AsOf = "t2", time.Time{}, at
	_, err = s.SaveHead(ctx, h)
	check(t, err)
	if _, err := s.SaveHead(ctx, stale); access.CodeOf(err) != access.Aborted {
		t.Errorf("a stale head: %v", err)
	}
	if due, err := s.Due(ctx, at.Add(1000*time.Hour)); err != nil || len(due) != 0 {
		t.Errorf("never is due: %v, %v", due, err)
	}
	check(t, s.Touch(ctx, on, "t3", at))
	if due, err := s.Due(ctx, at); err != nil || len(due) != 1 || due[0].NSG != on || due[0].Done != "t2" || !due[0].AsOf.Equal(at) {
		t.Errorf("due: %+v, %v", due, err)
	}
	for range 2 { // a repeat completes it
		legs[0].State = access.LegEnded
		check(t, s.EndLegs(ctx, on, legs[:1]))
	}
	f, err := s.File(ctx, leg(0).Request)
	check(t, err)
	left, err := s.Legs(ctx, on)
	check(t, err)
	if len(f.Ended) != 1 || f.Ended[0].State != access.LegEnded || len(left) != 1 || left[0].Grant != 1 {
		t.Errorf("ended %+v, left %+v", f.Ended, left)
	}
}

func TestTheNearestPolicyIsFound(t *testing.T) {
	s, ctx := store(t), t.Context()
	p := accesspolicy.AccessPolicy{Scope: access.ResourceID(group), Requestors: []string{"*"}, Ports: []accesspolicy.Port{{
		Number: 22, Protocol: access.TCP, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, MaxDuration: time.Hour,
	}}}
	if found, err := s.PoliciesFor(ctx, vm); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	version, err := s.PutPolicy(ctx, p)
	check(t, err)
	if found, err := s.PoliciesFor(ctx, vm); err != nil || len(found) != 1 || found[0].Version != version {
		t.Errorf("%+v, %v", found, err)
	}
	p.Scope = vm
	_, err = s.PutPolicy(ctx, p)
	check(t, err)
	if got, ok := accesspolicy.Nearest(vm, must(s.PoliciesFor(ctx, vm))); !ok || got.Scope != vm {
		t.Errorf("%+v", got)
	}
	if all, err := s.ListPolicies(ctx, ""); err != nil || len(all) != 2 {
		t.Errorf("%d, %v", len(all), err)
	}
	p.Ports = nil
	if _, err := s.PutPolicy(ctx, p); access.CodeOf(err) != access.InvalidArgument {
		t.Errorf("an invalid policy was stored: %v", err)
	}
}

func must(p []accesspolicy.AccessPolicy, err error) []accesspolicy.AccessPolicy {
	if err != nil {
		panic(err)
	}
	return p
}
