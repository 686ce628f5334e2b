package broker_test

import (
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func (w *world) tag(env string) {
	m := w.azure.Machines[vm]
	m.Tags = map[string]string{"env": env}
	w.azure.Machines[vm] = m
}

func conditional(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.store.Policies[0].Condition = `machine.tags.env == "dev"`
	w.tag("dev")
	return w
}

func TestAConditionIsJudgedByTheMachineAsItIs(t *testing.T) {
	w := conditional(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	w.expectStatus(rec, access.Initiated, "")
	w.tag("prod")
	_, err := w.desk.Request(t.Context(), ben, wants("2", bob, time.Hour))
	wantReason(t, err, access.PermissionDenied, "condition_not_met")
	w.azure.Machines[vm] = machine("unique-1")
	_, err = w.desk.Request(t.Context(), ben, wants("3", bob, time.Hour))
	wantReason(t, err, access.PermissionDenied, "condition_failed_closed")
	rec3, _, err := w.store.Find(t.Context(), access.NewRequestID(ben.Sender(), "3"))
	if err != nil || !contains(rec3.Cause, "no such key: env") || contains(rec3.Refusal.Message, "env") {
		t.Errorf("%+v, %v", rec3, err)
	}
	w.deliver()
	w.expectOpen(bob, 0)
	w.expectStatus(rec, access.Initiated, "") // what is open stays
}

func TestATagChangedBeforeTheFirstOpen(t *testing.T) {
	for env, c := range map[string]struct {
		status access.Status
		reason access.StatusReason
	}{"dev": {access.Initiated, ""}, "prod": {access.Failed, access.PolicyChanged}} {
		w := conditional(t)
		rec := w.request(anna, wants("1", alice, time.Hour))
		w.tag(env)
		w.deliver()
		w.expectStatus(rec, c.status, c.reason)
		later := w.request(anna, func() broker.Ask { w.tag("dev"); return w.later("2", time.Hour, time.Hour) }())
		w.tag(env)
		w.now = w.now.Add(time.Hour)
		w.deliverStarts()
		w.expectStatus(later, c.status, c.reason)
	}
}

func TestAMachineThatIsGoneIsATargetThatChanged(t *testing.T) {
	w := conditional(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	delete(w.azure.Machines, vm)
	w.deliver()
	w.expectStatus(rec, access.Failed, access.TargetChanged)
}

func TestAStrangerDoesNotMakeAMachineBeRead(t *testing.T) {
	w := conditional(t)
	w.store.Policies[0].Requestors = []string{ben.Name}
	w.faults.Reset()
	_, err := w.desk.Request(t.Context(), anna, wants("1", alice, time.Hour))
	wantReason(t, err, access.PermissionDenied, "not_permitted")
	withCondition := w.faults.Calls()
	w = newWorld(t)
	w.store.Policies = nil
	w.faults.Reset()
	_, err = w.desk.Request(t.Context(), anna, wants("1", alice, time.Hour))
	wantReason(t, err, access.PermissionDenied, "not_permitted")
	if n := w.faults.Calls(); n != withCondition {
		t.Errorf("%d calls where a condition stands, %d where nothing does", withCondition, n)
	}
}

func TestAChangedConditionNamesTheGrantsThatItDoesNotAllow(t *testing.T) {
	w := conditional(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	p := w.store.Policies[0]
	d := w.policyDesk()
	w.now = w.now.Add(30 * time.Minute)
	for condition, n := range map[string]int{`machine.tags.env == "dev"`: 0, `machine.tags.env == "prod"`: 1, `now == timestamp("2026-11-24T09:00:00Z")`: 0, `machine.tags.owner != ""`: 1} {
		p.Condition = condition
		c := w.put(d, p, broker.ChangeOptions{Version: p.Version, Plan: true})
		if len(c.NotAllowed) != n {
			t.Errorf("%s: %+v", condition, c.NotAllowed)
		}
	}
	p.Condition = "false"
	w.put(d, p, broker.ChangeOptions{Version: p.Version, CloseGrants: true})
	w.expectStatus(rec, access.Revoked, access.PolicyChanged)
	w.expectShut()
	p.Condition = "machine.colour"
	_, err := d.Put(t.Context(), admin, p, broker.ChangeOptions{})
	wantReason(t, err, access.InvalidArgument, "policy_invalid")
}
