package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
	"github.com/google/uuid"
)

// bare makes the calls of one Submit with the SDKs alone: nothing is decoded,
// decided or encoded, and the rows are filled with as much as Submit writes.
type bare struct {
	policies, requests, pending, nsgs *aztables.Client

	vms     *armcompute.VirtualMachinesClient
	nics    *armnetwork.InterfacesClient
	subnets *armnetwork.SubnetsClient
	groups  *armnetwork.SecurityGroupsClient

	sender *azservicebus.Sender
	calls  *calls
	// machine says whether the machine and its path are read.
	machine bool
}

// What the rows of Submit hold, in bytes, for one port of one machine.
const (
	recordSize = 1400
	eventSize  = 700
	legSize    = 700
)

func newBare(s *local, noted *calls, machine bool) (*bare, error) {
	service, err := s.tableService(noted)
	if err != nil {
		return nil, err
	}
	cred, opts := minted{s.Stack}, s.armOptions(noted)
	b := &bare{
		policies: service.NewClient("policies"), requests: service.NewClient("requests"),
		pending: service.NewClient("pending"), nsgs: service.NewClient("nsgs"), calls: noted, machine: machine,
	}
	var errs [6]error
	b.vms, errs[0] = armcompute.NewVirtualMachinesClient(subscription, cred, opts)
	b.nics, errs[1] = armnetwork.NewInterfacesClient(subscription, cred, opts)
	b.subnets, errs[2] = armnetwork.NewSubnetsClient(subscription, cred, opts)
	b.groups, errs[3] = armnetwork.NewSecurityGroupsClient(subscription, cred, opts)
	bus, err := s.bus()
	if errs[4] = err; err == nil {
		b.sender, errs[5] = bus.NewSender("nsg-reconcile", nil)
	}
	return b, errors.Join(errs[:]...)
}

func (b *bare) close(ctx context.Context) { _ = b.sender.Close(ctx) } // the stack ends next

// submit makes the calls in the order that the invariants ask for: what was
// decided before is looked up, the policy and the machine are read, the
// decision is claimed and kept, its close is scheduled, and only then the leg
// is written and its opening asked for.
func (b *bare) submit(ctx context.Context) error {
	id := "bare-" + uuid.NewString()
	session := hashed(networkScope + "networkSecurityGroups/" + ourGroup)
	steps := []func() error{
		func() error { return absent(b.pending.GetEntity(ctx, "pending", id, nil)) },
		func() error { return absent(b.requests.GetEntity(ctx, id, "request", nil)) },
		func() error { return absent(b.policies.GetEntity(ctx, subscription, hashed(vmScope+vmName(0)), nil)) },
		func() error {
			_, err := b.policies.GetEntity(ctx, subscription, hashed(strings.ToLower(groupScope)), nil)
			return err
		},
	}
	if b.machine {
		steps = append(steps, func() error { return b.readMachine(ctx) })
	}
	steps = append(steps,
		func() error { return b.claim(ctx, id) },
		func() error { return b.keep(ctx, id) },
		func() error { return b.prompt(ctx, session, time.Now().Add(time.Hour)) },
		func() error { return b.leg(ctx, "bare-"+session, id) },
		func() error { return b.prompt(ctx, session, time.Time{}) },
		func() error {
			_, err := b.pending.DeleteEntity(ctx, "pending", id, nil)
			return err
		},
	)
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bare) readMachine(ctx context.Context) error {
	if _, err := b.vms.Get(ctx, resourceGroup, vmName(0), nil); err != nil {
		return err
	}
	if _, err := b.nics.Get(ctx, resourceGroup, vmName(0)+"-nic", nil); err != nil {
		return err
	}
	if _, err := b.subnets.Get(ctx, resourceGroup, vnetName, subnetName, nil); err != nil {
		return err
	}
	_, err := b.groups.Get(ctx, resourceGroup, ourGroup, nil)
	return err
}

func (b *bare) claim(ctx context.Context, id string) error {
	data, err := entity("pending", id, recordSize)
	if err == nil {
		_, err = b.pending.AddEntity(ctx, data, nil)
	}
	return err
}

func (b *bare) keep(ctx context.Context, id string) error {
	record, err := entity(id, "request", recordSize)
	if err != nil {
		return err
	}
	event, err := entity(id, "event-requested", eventSize)
	if err == nil {
		_, err = b.requests.SubmitTransaction(ctx, []aztables.TransactionAction{
			{ActionType: aztables.TransactionTypeAdd, Entity: record}, {ActionType: aztables.TransactionTypeAdd, Entity: event},
		}, nil)
	}
	return err
}

func (b *bare) leg(ctx context.Context, partition, id string) error {
	head, err := entity(partition, "head", 0)
	if err != nil {
		return err
	}
	leg, err := entity(partition, "leg-"+id, legSize)
	if err == nil {
		_, err = b.nsgs.SubmitTransaction(ctx, []aztables.TransactionAction{
			{ActionType: aztables.TransactionTypeInsertMerge, Entity: head}, {ActionType: aztables.TransactionTypeAdd, Entity: leg},
		}, nil)
	}
	return err
}

func (b *bare) prompt(ctx context.Context, session string, at time.Time) error {
	b.calls.note(sendCall)
	m := &azservicebus.Message{Body: []byte(`{"nsg":"` + networkScope + "networkSecurityGroups/" + ourGroup + `"}`), SessionID: &session}
	if !at.IsZero() {
		m.ScheduledEnqueueTime = to.Ptr(at)
	}
	return b.sender.SendMessage(ctx, m, nil)
}

func entity(partition, key string, size int) ([]byte, error) {
	return json.Marshal(map[string]string{"PartitionKey": partition, "RowKey": key, "Doc0": strings.Repeat("x", size)})
}

func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// absent wants a row not to be there.
func absent(_ aztables.GetEntityResponse, err error) error {
	if res, ok := errors.AsType[*azcore.ResponseError](err); ok && res.StatusCode == http.StatusNotFound {
		return nil
	}
	if err == nil {
		err = errors.New("a row that should not be there was found")
	}
	return err
}
