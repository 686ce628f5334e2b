package infra

import (
	"go/ast"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	compute = "Microsoft.Compute/"
	network = "Microsoft.Network/"
)

// actions says what each call of the SDK takes. The names of actions are those
// of "Azure permissions for Networking" and "… for Compute" in Azure's documents.
var actions = map[string][]string{
	"SecurityGroupsClient.Get":                 {network + "networkSecurityGroups/read"},
	"SecurityGroupsClient.NewListAllPager":     {network + "networkSecurityGroups/read"},
	"SecurityGroupsClient.BeginCreateOrUpdate": {network + "networkSecurityGroups/write", network + "networkSecurityGroups/read"},
	"SecurityRulesClient.BeginDelete":          {network + "networkSecurityGroups/securityRules/delete"},
	"SecurityRulesClient.BeginCreateOrUpdate":  {network + "networkSecurityGroups/securityRules/write", network + "networkSecurityGroups/securityRules/read"},
	"InterfacesClient.Get":                     {network + "networkInterfaces/read"},
	"InterfacesClient.NewListAllPager":         {network + "networkInterfaces/read"},
	"VirtualNetworksClient.Get":                {network + "virtualNetworks/read"},
	"VirtualNetworksClient.NewListAllPager":    {network + "virtualNetworks/read"},
	"SubnetsClient.Get":                        {network + "virtualNetworks/subnets/read"},
	"LoadBalancersClient.Get":                  {network + "loadBalancers/read"},
	"VirtualMachinesClient.Get":                {compute + "virtualMachines/read"},
	"VirtualMachinesClient.NewListAllPager":    {compute + "virtualMachines/read"},
}

// polling is what every long-running operation takes besides.
var polling = []string{network + "locations/operations/read", network + "locations/operationResults/read"}

// TestTheRoleIsWhatTheCodeDoes: every call to Resource Manager is in the custom
// role, and the role holds no more.
func TestTheRoleIsWhatTheCodeDoes(t *testing.T) {
	var role struct{ Actions, ApplicationSecurityGroupActions []string }
	readJSON(t, "infra/nsg-role.json", &role)
	called := armCalls(t)
	var needed []string
	for _, call := range called {
		need, ok := actions[call]
		if !ok {
			t.Errorf("%s is called, and this test does not know what right it takes: add it here and to infra/nsg-role.json", call)
		}
		if needed = append(needed, need...); strings.Contains(call, ".Begin") {
			needed = append(needed, polling...)
		}
	}
	for call := range actions {
		if !slices.Contains(called, call) {
			t.Errorf("%s is called no more: remove it here", call)
		}
	}
	same(t, "the role", needed, role.Actions)
	for _, a := range append(role.Actions, role.ApplicationSecurityGroupActions...) {
		if strings.Contains(a, "*") {
			t.Errorf("%s: a role of ours has no wildcards", a)
		}
	}
}

// armCalls finds the calls of methods of Resource Manager's clients, which the
// struct clients holds.
func armCalls(t *testing.T) (out []string) {
	t.Helper()
	files := goFiles(t, "pkg/azure/network")
	clients := map[string]string{} // the type of each field
	made := map[string]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				star, ok := n.Type.(*ast.StarExpr)
				if !ok {
					return true
				}
				if sel, ok := star.X.(*ast.SelectorExpr); ok && isARM(sel.X) && strings.HasSuffix(sel.Sel.Name, "Client") {
					for _, name := range n.Names {
						clients[name.Name] = sel.Sel.Name
					}
				}
			case *ast.SelectorExpr:
				if isARM(n.X) && strings.HasPrefix(n.Sel.Name, "New") {
					made[strings.TrimPrefix(n.Sel.Name, "New")] = true
				}
			}
			return true
		})
	}
	for kind := range made {
		held := false
		for _, c := range clients {
			held = held || c == kind
		}
		if !held {
			t.Errorf("%s is made and not held in the struct clients, where this test looks", kind)
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			method, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if client, ok := method.X.(*ast.SelectorExpr); ok && clients[client.Sel.Name] != "" {
				if call := clients[client.Sel.Name] + "." + method.Sel.Name; !slices.Contains(out, call) {
					out = append(out, call)
				}
			}
			return true
		})
	}
	if len(out) == 0 {
		t.Fatal("no call was found: this test looks in the wrong place")
	}
	return out
}

func isARM(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && strings.HasPrefix(id.Name, "arm")
}

// toolsAlone are packages that call Resource Manager as whoever runs the tool, and
// never as the app: what makes them is not called by the handler.
var toolsAlone = map[string]string{"pkg/azure/defender": "Defender", "pkg/azure/rights": "Rights"}

// TestResourceManagerIsCalledInOnePlace: the role is held against that one.
func TestResourceManagerIsCalledInOnePlace(t *testing.T) {
	for path, f := range goFiles(t, "cmd/handler") {
		ast.Inspect(f, func(n ast.Node) bool {
			for dir, maker := range toolsAlone {
				if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == maker {
					t.Errorf("%s: the handler calls what makes %s, which is the tool's", path, dir)
				}
			}
			return true
		})
	}
	for _, dir := range []string{"cmd", "handlers", "internal", "pkg"} {
		for path, f := range goFiles(t, dir) {
			in, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			in = filepath.ToSlash(in)
			if in == "pkg/azure/network" || strings.HasPrefix(in, "pkg/localazure") || toolsAlone[in] != "" {
				continue
			}
			for _, i := range f.Imports {
				if strings.Contains(i.Path.Value, "/resourcemanager/") {
					t.Errorf("%s imports %s: what it calls is not held against the role", path, i.Path.Value)
				}
			}
		}
	}
}
