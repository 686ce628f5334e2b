package resourcemanager

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"

	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

// frequency is the shortest that PollUntilDone takes; Retry-After-Ms from the
// server makes the waits shorter.
var frequency = &runtime.PollUntilDoneOptions{Frequency: time.Second}

func sshRule(priority int32, source string) armnetwork.SecurityRule {
	return armnetwork.SecurityRule{Properties: &armnetwork.SecurityRulePropertiesFormat{
		Access: to.Ptr(armnetwork.SecurityRuleAccessAllow), Direction: to.Ptr(armnetwork.SecurityRuleDirectionInbound),
		Protocol: to.Ptr(armnetwork.SecurityRuleProtocolTCP), Priority: to.Ptr(priority),
		SourceAddressPrefix: to.Ptr(source), SourcePortRange: to.Ptr("*"),
		DestinationAddressPrefix: to.Ptr("10.0.1.4"), DestinationPortRange: to.Ptr("22"),
	}}
}

// The path from a machine to the groups that filter it, as the product walks it.
func TestSDKWalksFromMachineToGroups(t *testing.T) {
	f := start(t, nil)
	vms := must[*armcompute.VirtualMachinesClient](t)(armcompute.NewVirtualMachinesClient(sub, credential{}, f.options()))
	nics := must[*armnetwork.InterfacesClient](t)(armnetwork.NewInterfacesClient(sub, credential{}, f.options()))
	subnets := must[*armnetwork.SubnetsClient](t)(armnetwork.NewSubnetsClient(sub, credential{}, f.options()))
	for name, want := range map[string]struct{ subnet, nic, addresses string }{
		"web-1":  {"nsg-web-subnet", "nsg-web-1-nic", "10.0.1.4"},
		"web-2":  {"nsg-web-subnet", "", "10.0.1.5"},
		"db-1":   {"", "nsg-db-1-nic", "10.0.2.4"},
		"bare-1": {"", "", "10.0.2.5"},
		"dual-1": {"nsg-dual-subnet", "", "10.0.3.4 2001:db8:100:3::4"},
	} {
		vm, err := vms.Get(t.Context(), "prod", name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(*vm.Properties.VMID) != 36 || vm.Properties.StorageProfile.OSDisk.OSType == nil {
			t.Errorf("%s: no vmId or osType", name)
		}
		nicID := must[*azcoreID](t)(parseID(*vm.Properties.NetworkProfile.NetworkInterfaces[0].ID))
		nic, err := nics.Get(t.Context(), nicID.group, nicID.name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.EqualFold(*nic.Properties.VirtualMachine.ID, *vm.ID) {
			t.Errorf("%s: its interface belongs to %s", name, *nic.Properties.VirtualMachine.ID)
		}
		var addresses []string
		for _, c := range nic.Properties.IPConfigurations {
			addresses = append(addresses, *c.Properties.PrivateIPAddress)
		}
		subnetID := must[*azcoreID](t)(parseID(*nic.Properties.IPConfigurations[0].Properties.Subnet.ID))
		subnet, err := subnets.Get(t.Context(), subnetID.group, subnetID.parent, subnetID.name, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := struct{ subnet, nic, addresses string }{addresses: strings.Join(addresses, " ")}
		if g := subnet.Properties.NetworkSecurityGroup; g != nil {
			got.subnet = must[*azcoreID](t)(parseID(*g.ID)).name
		}
		if g := nic.Properties.NetworkSecurityGroup; g != nil {
			got.nic = must[*azcoreID](t)(parseID(*g.ID)).name
		}
		if got != want {
			t.Errorf("%s = %+v, want %+v", name, got, want)
		}
	}
	if _, err := vms.Get(t.Context(), "prod", "nobody", nil); err == nil {
		t.Error("an unknown machine was found")
	} else if status, code := errorCode(err); status != 404 || code != "ResourceNotFound" {
		t.Errorf("an unknown machine: %v", err)
	}
}

// azcoreID is the part of an id that the walk needs.
type azcoreID struct{ group, parent, name string }

func parseID(id string) (*azcoreID, error) {
	p, _ := parsePath(id)
	out := &azcoreID{group: p.Group, name: p.Names[len(p.Names)-1]}
	if len(p.Names) > 1 {
		out.parent = p.Names[0]
	}
	return out, nil
}

func TestSDKLists(t *testing.T) {
	f := start(t, func(c *Config) { c.PageSize = 2 })
	vms := must[*armcompute.VirtualMachinesClient](t)(armcompute.NewVirtualMachinesClient(sub, credential{}, f.options()))
	pages := drain(t, vms.NewListPager("prod", nil))
	var names []string
	for _, p := range pages {
		for _, vm := range p.Value {
			names = append(names, *vm.Name)
		}
	}
	if want := []string{"bare-1", "db-1", "dual-1", "web-1", "web-2"}; !slices.Equal(names, want) || len(pages) != 3 {
		t.Errorf("machines = %v on %d pages, want %v on 3", names, len(pages), want)
	}
	for _, p := range drain(t, vms.NewListAllPager(nil)) {
		for _, vm := range p.Value {
			if !strings.Contains(*vm.ID, "/resourceGroups/PROD/") {
				t.Errorf("the subscription's list has id %s, want the group in capitals", *vm.ID)
			}
		}
	}
	nics := must[*armnetwork.InterfacesClient](t)(armnetwork.NewInterfacesClient(sub, credential{}, f.options()))
	vnets := must[*armnetwork.VirtualNetworksClient](t)(armnetwork.NewVirtualNetworksClient(sub, credential{}, f.options()))
	subnets := must[*armnetwork.SubnetsClient](t)(armnetwork.NewSubnetsClient(sub, credential{}, f.options()))
	count := map[string]int{}
	for _, p := range drain(t, nics.NewListAllPager(nil)) {
		count["nics"] += len(p.Value)
	}
	for _, p := range drain(t, vnets.NewListPager("prod", nil)) {
		count["vnets"] += len(p.Value)
		count["subnets inside"] += len(p.Value[0].Properties.Subnets)
	}
	for _, p := range drain(t, subnets.NewListPager("prod", "vnet-prod", nil)) {
		count["subnets"] += len(p.Value)
	}
	for _, p := range drain(t, f.groupsClient().NewListAllPager(nil)) {
		count["groups"] += len(p.Value)
	}
	for _, p := range drain(t, f.groupsClient().NewListPager("PROD", nil)) {
		count["groups of the resource group"] += len(p.Value)
	}
	for _, p := range drain(t, f.rulesClient().NewListPager("prod", "nsg-web-subnet", nil)) {
		count["rules"] += len(p.Value)
	}
	want := map[string]int{"nics": 5, "vnets": 1, "subnets inside": 3, "subnets": 3, "groups": 4, "groups of the resource group": 4, "rules": 2}
	for what, n := range want {
		if count[what] != n {
			t.Errorf("%s = %d, want %d", what, count[what], n)
		}
	}
}

func TestSDKRuleCreateAndDelete(t *testing.T) {
	f := start(t, func(c *Config) { c.OperationLatency = 20 * time.Millisecond; c.Now = time.Now })
	before, _ := f.NSG(web)
	rules := f.rulesClient()
	put, err := rules.BeginCreateOrUpdate(t.Context(), "prod", "nsg-web-subnet", "ssh", sshRule(200, "203.0.113.7"), nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := put.PollUntilDone(t.Context(), frequency)
	if err != nil {
		t.Fatal(err)
	}
	if *done.Properties.ProvisioningState != armnetwork.ProvisioningStateSucceeded || *done.Properties.Priority != 200 {
		t.Errorf("the rule is %+v", done.Properties)
	}
	group, err := f.groupsClient().Get(t.Context(), "prod", "nsg-web-subnet", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(group.Properties.SecurityRules) != 3 || *group.Etag != *done.Etag {
		t.Errorf("the group has %d rules and etag %s, the rule %s", len(group.Properties.SecurityRules), *group.Etag, *done.Etag)
	}
	remove, err := rules.BeginDelete(t.Context(), "prod", "nsg-web-subnet", "SSH", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remove.PollUntilDone(t.Context(), frequency); err != nil {
		t.Fatal(err)
	}
	if _, err := rules.Get(t.Context(), "prod", "nsg-web-subnet", "ssh", nil); err == nil {
		t.Error("the rule is still there")
	}
	again, err := rules.BeginDelete(t.Context(), "prod", "nsg-web-subnet", "ssh", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.PollUntilDone(t.Context(), frequency); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	after, _ := f.NSG(web)
	if withoutETags(t, before) != withoutETags(t, after) {
		t.Errorf("the group is not what it was:\n%s\n%s", before, after)
	}
	if got := f.Stats(); got.NSGWrites != 2 || got.Writes[groupType+"/securityRules"] != 1 || got.Deletes[groupType+"/securityRules"] != 1 {
		t.Errorf("%+v, want one write and one delete", got)
	}
}

// withoutETags removes what an operation changes in any case.
func withoutETags(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "etag")
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	o, ok := decodeObject(raw)
	if !ok {
		t.Fatalf("not an object: %s", raw)
	}
	walk(o)
	out, err := encode(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A whole group is read, changed and written under its ETag; the loser of a race
// gets 412, and what was not touched comes back as it was.
func TestSDKWholeGroupUnderItsETag(t *testing.T) {
	f := start(t, func(c *Config) { c.OperationLatency = 20 * time.Millisecond; c.Now = time.Now })
	groups := f.groupsClient()
	got, err := groups.Get(t.Context(), "prod", "nsg-web-subnet", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Properties.DefaultSecurityRules) != 6 || len(got.Properties.Subnets) != 1 || len(got.Properties.NetworkInterfaces) != 0 {
		t.Errorf("defaults, subnets, interfaces = %d, %d, %d", len(got.Properties.DefaultSecurityRules), len(got.Properties.Subnets), len(got.Properties.NetworkInterfaces))
	}
	before := withoutETags(t, must[json.RawMessage](t)(json.Marshal(got.Properties.SecurityRules[0])))
	ours := sshRule(200, "203.0.113.7")
	ours.Name = to.Ptr("ssh")
	group := got.SecurityGroup
	group.Properties.SecurityRules = append(group.Properties.SecurityRules, &ours)
	group.Properties.FlushConnection = to.Ptr(true)
	conditional := policy.WithHTTPHeader(t.Context(), http.Header{"If-Match": {*got.Etag}})
	poller, err := groups.BeginCreateOrUpdate(conditional, "prod", "nsg-web-subnet", group, nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := poller.PollUntilDone(t.Context(), frequency)
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Properties.SecurityRules) != 3 || !*done.Properties.FlushConnection || *done.Properties.ResourceGUID != *got.Properties.ResourceGUID {
		t.Errorf("the group is %+v", done.Properties)
	}
	if after := withoutETags(t, must[json.RawMessage](t)(json.Marshal(done.Properties.SecurityRules[0]))); after != before {
		t.Errorf("the customer's rule changed:\n%s\n%s", before, after)
	}
	if _, err := groups.BeginCreateOrUpdate(conditional, "prod", "nsg-web-subnet", group, nil); err == nil {
		t.Error("a stale ETag was accepted")
	} else if status, code := errorCode(err); status != 412 || code != "PreconditionFailed" {
		t.Errorf("a stale ETag: %v", err)
	}
}

func TestSDKSupersededOperation(t *testing.T) {
	f := start(t, func(c *Config) { c.OperationLatency = 90 * time.Second })
	f.Supersede(true)
	rules := f.rulesClient()
	first, err := rules.BeginCreateOrUpdate(t.Context(), "prod", "nsg-web-subnet", "one", sshRule(200, "203.0.113.7"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := rules.BeginCreateOrUpdate(t.Context(), "prod", "nsg-web-subnet", "two", sshRule(201, "203.0.113.8"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Minute)
	if _, err := first.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Result(t.Context()); err == nil || !strings.Contains(err.Error(), "CanceledAndSupersededDueToAnotherOperation") {
		t.Errorf("the superseded operation: %v", err)
	}
	if _, err := second.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Result(t.Context()); err != nil {
		t.Errorf("the superseding operation: %v", err)
	}
}

// The real credential, the issuer and Resource Manager together: no token is
// made up.
func TestManagedIdentityReachesResourceManager(t *testing.T) {
	const tenant = "11111111-1111-1111-1111-111111111111"
	const client = "22222222-2222-2222-2222-222222222222"
	issuer, err := identity.New(identity.Config{
		Issuer: "https://localhost/" + tenant + "/v2.0", TenantID: tenant, IdentityHeader: "secret",
		ManagedIdentities: []identity.Principal{{ObjectID: "33333333-3333-3333-3333-333333333333", ClientID: client, Name: "handler"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	managed := httptest.NewServer(issuer)
	defer managed.Close()
	t.Setenv("IDENTITY_ENDPOINT", managed.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", "secret")
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(client)})
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, func(c *Config) { c.Verify = issuer.Verify })
	for _, audience := range audiences {
		options := f.options()
		for name, service := range options.Cloud.Services {
			service.Audience = audience
			options.Cloud.Services[name] = service
		}
		groups := must[*armnetwork.SecurityGroupsClient](t)(armnetwork.NewSecurityGroupsClient(sub, cred, options))
		if _, err := groups.Get(t.Context(), "prod", "nsg-web-subnet", nil); err != nil {
			t.Errorf("%s: %v", audience, err)
		}
	}
	other := must[*armnetwork.SecurityGroupsClient](t)(armnetwork.NewSecurityGroupsClient(sub, wrongAudience{issuer}, f.options()))
	if _, err := other.Get(t.Context(), "prod", "nsg-web-subnet", nil); err == nil {
		t.Error("a token for another service was accepted")
	} else if status, code := errorCode(err); status != 401 || code != "InvalidAuthenticationToken" {
		t.Errorf("a token for another service: %v", err)
	}
}

// wrongAudience gives tokens that are good elsewhere.
type wrongAudience struct{ issuer *identity.Server }

func (w wrongAudience) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := w.issuer.Mint(identity.UserToken{Name: "a", Audience: "https://servicebus.azure.net"})
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}
