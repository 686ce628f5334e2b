package network_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

var _ broker.MachinePreparer = (*network.Network)(nil)

func ids(n int) (out []access.ResourceID) {
	for i := range n {
		out = append(out, access.ResourceID(fmt.Sprint(machines, "vm-", i)))
	}
	return out
}

// Many machines are read together, few one by one.
func TestManyMachinesTakeAHandfulOfCalls(t *testing.T) {
	s, n := azureOf(t, fleet(200), nil)
	before := time.Now()
	n.Prepare(t.Context(), ids(3), before)
	if calls := reads(s); calls != 0 {
		t.Errorf("%d calls beforehand for three machines", calls)
	}
	n.Prepare(t.Context(), ids(200), before)
	listed := reads(s)
	if listed == 0 || listed > 12 {
		t.Errorf("%d calls for 200 machines", listed)
	}
	for _, id := range ids(200) {
		if m, err := n.Machine(t.Context(), id, before); err != nil || m.ID != id || len(m.NICs) != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if calls := reads(s); calls != listed {
		t.Errorf("%d calls more for what was read", calls-listed)
	}
}

// Whoever confirms a machine gets what was read since, by a list or not.
func TestMachinesReadTogetherAreReadAsLateAsAskedFor(t *testing.T) {
	s, n := azureOf(t, fleet(200), nil)
	n.Prepare(t.Context(), ids(200), time.Now())
	s.RemoveResource(string(ids(200)[7]))
	later := time.Now()
	n.Prepare(t.Context(), ids(200), later)
	for i, id := range ids(200) {
		if _, err := n.Machine(t.Context(), id, later); (access.CodeOf(err) == access.NotFound) != (i == 7) {
			t.Errorf("%s: %v", id.Name(), err)
		}
	}
}

// A burst of requests, each of which knows of one machine only, shares a listing.
func TestABurstOfSingleReadsBecomesAList(t *testing.T) {
	s, n := azureOf(t, fleet(200), nil)
	since := time.Now()
	var wg sync.WaitGroup
	for _, id := range ids(200) {
		wg.Go(func() {
			if m, err := n.Machine(t.Context(), id, since); err != nil || len(m.NICs) != 1 {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	wg.Wait()
	if calls := reads(s); calls > 40 {
		t.Errorf("%d calls for 200 machines", calls)
	}
}

// An identity that may read machines and not list them does so one by one.
func TestMachinesThatMayNotBeListedAreReadOneByOne(t *testing.T) {
	s, n := azureOf(t, fleet(40), nil)
	s.Deny("Microsoft.Network/virtualNetworks/read")
	for _, id := range ids(40) {
		n.Prepare(t.Context(), ids(40), time.Now())
		if m, err := n.Machine(t.Context(), id, time.Now()); err != nil || len(m.NICs) != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	// Failed once, the lists are left alone for a while.
	if calls := reads(s); calls > 40*4+10 {
		t.Errorf("%d calls", calls)
	}
}
