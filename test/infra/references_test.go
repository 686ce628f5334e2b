package infra

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/portcullis-access/portcullis/test/infra/bicep"
)

// functions that the deployment calls: those of Bicep's documentation that are
// used here. A misspelt one is not among them.
var functions = []string{
	"any", "cidrSubnet", "concat", "empty", "environment", "flatten", "guid", "items", "join", "loadJsonContent", "map", "replace",
	"resourceGroup", "split", "string", "subscription", "subscriptionResourceId", "tenant", "toLower", "union", "uniqueString",
	// of files of parameters
	"readEnvironmentVariable",
	// decorators
	"allowed", "description", "maxLength", "maxValue", "minLength", "minValue",
}

// TestNamesAreDeclared: whatever is named is declared in its file, once, and what
// is declared is used.
func TestNamesAreDeclared(t *testing.T) {
	for name, f := range bicepFiles(t) {
		declared, used := map[string]int{}, map[string]bool{}
		all := slices.Concat(f.Params, f.Vars, f.Resources, f.Modules)
		for _, d := range all {
			if declared[d.Name] != 0 {
				t.Errorf("%s:%d: %s is declared twice", name, d.Line, d.Name)
			}
			declared[d.Name] = d.Line
		}
		for _, d := range slices.Concat(all, f.Outputs) {
			for _, n := range append(d.Decorators, d.Value) {
				for _, fault := range undeclared(n, declared, used, nil) {
					t.Errorf("%s: %s", name, fault)
				}
			}
		}
		for _, d := range slices.Concat(f.Params, f.Vars) {
			if !used[d.Name] {
				t.Errorf("%s:%d: %s is used nowhere", name, d.Line, d.Name)
			}
		}
	}
}

func undeclared(n *bicep.Node, declared map[string]int, used map[string]bool, local []string) (faults []string) {
	if n == nil {
		return nil
	}
	below := local
	switch n.Kind {
	case bicep.Name:
		if _, ok := declared[n.Text]; !ok && !slices.Contains(local, n.Text) {
			faults = append(faults, fmt.Sprintf("line %d: %s is not declared", n.Line, n.Text))
		}
		used[n.Text] = true
	case bicep.Call:
		if n.On == nil && !slices.Contains(functions, n.Text) {
			faults = append(faults, fmt.Sprintf("line %d: the function %s is not known", n.Line, n.Text))
		}
	case bicep.For, bicep.Lambda:
		below = append(slices.Clone(local), n.Vars...)
		for _, v := range n.Vars {
			if _, ok := declared[v]; ok || slices.Contains(local, v) || slices.Contains(functions, v) {
				faults = append(faults, fmt.Sprintf("line %d: %s is the name of something else too", n.Line, v))
			}
		}
	}
	faults = append(faults, undeclared(n.On, declared, used, local)...)
	for i, item := range slices.Concat(n.Keys, n.Items) {
		scope := below
		if n.Kind == bicep.For && i == 0 {
			scope = local // what is looped over does not see the loop's names
		}
		faults = append(faults, undeclared(item, declared, used, scope)...)
	}
	return faults
}

// TestModulesFit: each module is there, gets every parameter that it demands and
// none that it has not, in the scope that it is written for; and of its outputs
// only those are used that it has.
func TestModulesFit(t *testing.T) {
	files := bicepFiles(t)
	reached := map[string]bool{"main.bicep": true}
	for name, f := range files {
		outputs := map[string]*bicep.File{}
		for _, m := range f.Modules {
			to := path.Join(path.Dir(name), m.Type)
			module, ok := files[to]
			if !ok {
				t.Errorf("%s:%d: there is no %s", name, m.Line, to)
				continue
			}
			reached[to] = true
			outputs[m.Name] = module
			for _, fault := range misfits(m, module) {
				t.Errorf("%s:%d: module %s %s", name, m.Line, m.Name, fault)
			}
		}
		for _, d := range slices.Concat(f.Vars, f.Resources, f.Modules, f.Outputs) {
			d.Value.Walk(func(n *bicep.Node) bool {
				if n.Kind == bicep.Member && n.On.Kind == bicep.Member && n.On.Text == "outputs" && n.On.On.Kind == bicep.Name {
					if module := outputs[n.On.On.Text]; module == nil || !declares(module.Outputs, n.Text) {
						t.Errorf("%s:%d: %s has no output %s", name, n.Line, n.On.On.Text, n.Text)
					}
				}
				return true
			})
		}
	}
	for name := range files {
		if !reached[name] {
			t.Errorf("%s is used by nothing", name)
		}
	}
}

func misfits(m *bicep.Decl, module *bicep.File) (faults []string) {
	params := m.Value.Get("params")
	for _, p := range module.Params {
		if p.Value == nil && params.Get(p.Name) == nil {
			faults = append(faults, "lacks the parameter "+p.Name)
		}
	}
	for _, k := range params.Keys {
		if !declares(module.Params, k.Text) {
			faults = append(faults, "has no parameter "+k.Text)
		}
	}
	want := "resourceGroup"
	if module.TargetScope != "" {
		want = module.TargetScope
	}
	have := "subscription" // that of main.bicep, where nothing else is said
	if scope := m.Value.Get("scope"); scope != nil {
		have = "resourceGroup" // a symbol, and that is the group
		if scope.Kind == bicep.Call {
			have = scope.Text
		}
	}
	if have != want {
		faults = append(faults, fmt.Sprintf("is put in a %s and written for a %s", have, want))
	}
	return faults
}

func declares(list []*bicep.Decl, name string) bool {
	return slices.ContainsFunc(list, func(d *bicep.Decl) bool { return d.Name == name })
}

// TestParametersFit: the file of parameters gives what main.bicep demands.
func TestParametersFit(t *testing.T) {
	given, err := bicep.Read(filepath.Join(root, "infra/main.bicepparam"))
	if err != nil {
		t.Fatal(err)
	}
	main := bicepFiles(t)["main.bicep"]
	if given.Using != "main.bicep" {
		t.Errorf("main.bicepparam is for %q", given.Using)
	}
	for _, p := range main.Params {
		if p.Value == nil && !declares(given.Params, p.Name) {
			t.Errorf("main.bicepparam lacks %s", p.Name)
		}
	}
	for _, p := range given.Params {
		if !declares(main.Params, p.Name) {
			t.Errorf("main.bicep has no parameter %s", p.Name)
		}
		for _, fault := range undeclared(p.Value, nil, map[string]bool{}, nil) {
			t.Error("main.bicepparam: " + fault)
		}
	}
}

// TestLoadedFilesExist: what is loaded is there.
func TestLoadedFilesExist(t *testing.T) {
	for name, f := range bicepFiles(t) {
		for _, d := range slices.Concat(f.Vars, f.Resources) {
			d.Value.Walk(func(n *bicep.Node) bool {
				if n.Kind == bicep.Call && n.Text == "loadJsonContent" {
					if _, err := os.Stat(filepath.Join(root, "infra", path.Dir(name), n.Items[0].Text)); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				return true
			})
		}
	}
}

// documented are the versions of resource types that may be used. Most were found
// in public templates; those of diagnosticSettings, virtualNetworks,
// privateDnsZones and roleDefinitions were not looked up one by one. Another one is
// looked up before it is added.
var documented = []string{
	"Microsoft.Authorization/roleAssignments@2022-04-01",
	"Microsoft.Authorization/roleDefinitions@2022-04-01",
	"Microsoft.Insights/actionGroups@2023-01-01",
	"Microsoft.Insights/activityLogAlerts@2020-10-01",
	"Microsoft.Insights/components@2020-02-02",
	"Microsoft.Insights/diagnosticSettings@2021-05-01-preview",
	"Microsoft.Insights/metricAlerts@2018-03-01",
	"Microsoft.Insights/scheduledQueryRules@2023-12-01",
	"Microsoft.Insights/workbooks@2023-06-01",
	"Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31",
	"Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01",
	"Microsoft.Network/privateDnsZones@2020-06-01",
	"Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01",
	"Microsoft.Network/privateEndpoints@2024-05-01",
	"Microsoft.Network/virtualNetworks@2024-05-01",
	"Microsoft.OperationalInsights/workspaces@2023-09-01",
	"Microsoft.Resources/resourceGroups@2022-09-01",
	"Microsoft.ServiceBus/namespaces/queues@2024-01-01",
	"Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01",
	"Microsoft.ServiceBus/namespaces/topics@2024-01-01",
	"Microsoft.ServiceBus/namespaces@2024-01-01",
	"Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2023-05-01",
	"Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01",
	"Microsoft.Storage/storageAccounts/blobServices@2023-05-01",
	"Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01",
	"Microsoft.Storage/storageAccounts/tableServices@2023-05-01",
	"Microsoft.Storage/storageAccounts@2023-05-01",
	"Microsoft.Web/serverfarms@2024-04-01",
	"Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01",
	"Microsoft.Web/sites/config@2024-04-01",
	"Microsoft.Web/sites@2024-04-01",
}

func TestResourceTypesAreDocumented(t *testing.T) {
	for name, f := range bicepFiles(t) {
		for _, r := range f.Resources {
			if !slices.Contains(documented, r.Type) {
				t.Errorf("%s:%d: %s is not among the types that were looked up", name, r.Line, r.Type)
			}
			if r.Value.Get("name") == nil {
				t.Errorf("%s:%d: %s has no name", name, r.Line, r.Name)
			}
		}
	}
}

// TestNoKeys: nothing asks Azure for a key, and no account takes one.
func TestNoKeys(t *testing.T) {
	keys := regexp.MustCompile(`(?i)listKeys|listAccountSas|listServiceSas|AccountKey|SharedAccessKey`)
	closed := map[string]struct{ property, value string }{
		"Microsoft.Storage/storageAccounts":                      {"allowSharedKeyAccess", "false"},
		"Microsoft.ServiceBus/namespaces":                        {"disableLocalAuth", "true"},
		"Microsoft.Insights/components":                          {"DisableLocalAuth", "true"},
		"Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow", "false"},
	}
	for name, f := range bicepFiles(t) {
		if found := keys.FindString(readFile(t, "infra/"+name)); found != "" {
			t.Errorf("%s: %s", name, found)
		}
		for _, r := range f.Resources {
			kind, _, _ := cutVersion(r.Type)
			want, ok := closed[kind]
			if !ok || r.Existing {
				continue
			}
			if have := r.Value.Get("properties").Get(want.property); have == nil || have.Text != want.value {
				t.Errorf("%s:%d: %s must say %s: %s", name, r.Line, r.Name, want.property, want.value)
			}
		}
	}
}
