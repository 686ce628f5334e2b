package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/portcullis-access/portcullis/pkg/localazure/resourcemanager"
	"github.com/portcullis-access/portcullis/test/bench/profile"
)

const (
	subscription  = "00000000-0000-0000-0000-000000000001"
	resourceGroup = "bench"
	groupScope    = "/subscriptions/" + subscription + "/resourceGroups/" + resourceGroup
	networkScope  = groupScope + "/providers/Microsoft.Network/"
	vmScope       = groupScope + "/providers/Microsoft.Compute/virtualMachines/"

	// The group before the machines that are asked for, and one that only the
	// naive worker writes.
	ourGroup   = "nsg-ours"
	naiveGroup = "nsg-naive"
	vnetName   = "vnet"
	subnetName = "machines"
)

func vmName(i int) string { return fmt.Sprintf("vm-%03d", i) }

// address is the private address of the i-th machine.
func address(i int) string { return fmt.Sprintf("10.0.%d.%d", i/200, 4+i%200) }

// source is the i-th address that asks, inside the policy's range.
func source(i int) string { return fmt.Sprintf("198.18.%d.%d", i/200, 1+i%200) }

// people are those who ask by turns.
const people = 5

func requestor(i int) string { return fmt.Sprintf("requestor-%d@contoso.com", i%people) }

// topology has the machines in one subnet behind one group.
func topology(machines int) ([]byte, error) {
	deny := resourcemanager.Rule{Name: "DenyManagementPorts", Properties: map[string]any{
		"priority": 4000, "access": "Deny", "direction": "Inbound", "protocol": "Tcp", "sourceAddressPrefix": "*",
		"sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "22",
	}}
	t := resourcemanager.Topology{
		Subscription: subscription, ResourceGroup: resourceGroup, Location: "westeurope",
		NetworkSecurityGroups: []resourcemanager.Group{
			{Name: ourGroup, Rules: []resourcemanager.Rule{deny}}, {Name: naiveGroup, Rules: []resourcemanager.Rule{deny}},
		},
		VirtualNetworks: []resourcemanager.VNet{{Name: vnetName, AddressPrefixes: []string{"10.0.0.0/16"}, Subnets: []resourcemanager.Subnet{
			{Name: subnetName, AddressPrefixes: []string{"10.0.0.0/20"}, NetworkSecurityGroup: ourGroup},
		}}},
	}
	for i := range machines {
		t.VirtualMachines = append(t.VirtualMachines, resourcemanager.VM{Name: vmName(i), OSType: "Linux", NICs: []resourcemanager.NIC{
			{Name: vmName(i) + "-nic", Subnet: vnetName + "/" + subnetName, Addresses: []string{address(i)}},
		}})
	}
	return json.Marshal(t)
}

// policyDoc lets the queue ask for port 22 of every machine.
const policyDoc = `{
  "scope": "` + groupScope + `",
  "ports": [{"number": 22, "protocol": "TCP", "allowedSourceAddressPrefixes": ["198.18.0.0/15"], "maxRequestAccessDuration": "PT1H"}],
  "requestors": ["alice@contoso.com", "requestor-0@contoso.com", "requestor-1@contoso.com", "requestor-2@contoso.com", "requestor-3@contoso.com", "requestor-4@contoso.com"],
  "assertedRequestorsFrom": ["queue"]
}`

// local is a stack in this process, with a policy applied.
type local struct {
	*localazure.Stack
	cfg   config.Config
	store *tables.Store
}

// startLocal starts the stack; app "" leaves out the Functions host and with it
// our handler. The CA in o.dir outlives the stack, as this process reads it once.
func startLocal(ctx context.Context, o options, app string, machines int, latency time.Duration, log io.Writer) (*local, error) {
	doc, err := topology(machines)
	if err != nil {
		return nil, err
	}
	entities, err := os.ReadFile(filepath.Join("infra", "entities.json"))
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"PORTCULLIS_SHORTEST_DURATION": "PT1S", "PORTCULLIS_MAX_LIVE_GRANTS": strconv.Itoa(manyGrants), "PORTCULLIS_MAX_REQUESTS_PER_HOUR": strconv.Itoa(manyGrants),
	}
	if o.profile != "" {
		settings[profile.Env] = o.profile
	}
	stack, err := localazure.Start(ctx, localazure.Config{
		Dir: o.dir, AppRoot: app, Topology: doc, Entities: entities, OperationLatency: latency,
		Settings: settings, Stdout: log, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		return nil, err
	}
	s := &local{Stack: stack}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, stack.Close())
	}
	return s, nil
}

func (s *local) prepare(ctx context.Context) (err error) {
	// crypto/x509 reads this from the environment alone.
	if err := os.Setenv("SSL_CERT_FILE", s.Env()["SSL_CERT_FILE"]); err != nil {
		return err
	}
	lookup := func(name string) (string, bool) { v, ok := s.Env()[name]; return v, ok }
	if s.cfg, err = config.Load(lookup, config.ServiceBus|config.Tables|config.Azure); err != nil {
		return err
	}
	if s.store, err = s.tableStore(nil); err != nil {
		return err
	}
	if err := s.store.Init(ctx); err != nil {
		return err
	}
	policy, err := accessjson.DecodePolicy([]byte(policyDoc))
	if err != nil {
		return err
	}
	_, err = s.store.PutPolicy(ctx, policy)
	return err
}

func groupID(name string) (access.ResourceID, error) {
	return access.ParseResourceID(networkScope + "networkSecurityGroups/" + name)
}

// freePort finds a port nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
