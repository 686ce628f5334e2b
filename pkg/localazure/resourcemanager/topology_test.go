package resourcemanager

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestParseTopologyRefuses(t *testing.T) {
	sample, err := os.ReadFile("../../../docs/examples/topology.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"unknown member":        {`"osType": "Windows"`, `"osType": "Windows", "cpu": 4`},
		"bad subscription":      {`"subscription": "0`, `"subscription": "x`},
		"bad group name":        {`"resourceGroup": "prod"`, `"resourceGroup": "a/b"`},
		"spelled-out location":  {`"westeurope"`, `"West Europe"`},
		"bad os":                {`"Windows"`, `"BeOS"`},
		"unknown group":         {`"networkSecurityGroup": "nsg-db-1-nic"`, `"networkSecurityGroup": "nsg-none"`},
		"unknown subnet's":      {`"subnet": "vnet-prod/db"`, `"subnet": "vnet-prod/none"`},
		"group twice":           {`"name": "nsg-db-1-nic"`, `"name": "NSG-web-1-nic"`},
		"machine twice":         {`"name": "web-2"`, `"name": "WEB-1"`},
		"address outside":       {`"10.0.2.4"`, `"10.0.1.44"`},
		"address twice":         {`"10.0.2.5"`, `"10.0.2.4"`},
		"no address":            {`"10.0.2.4"`, `""`},
		"subnet outside":        {`"10.0.2.0/24"`, `"10.1.2.0/24"`},
		"subnets overlap":       {`"10.0.2.0/24"`, `"10.0.0.0/20"`},
		"subnet with host bits": {`"10.0.2.0/24"`, `"10.0.2.1/24"`},
		"rule refused by Azure": {`"priority": 4000`, `"priority": 1000`},
		"trailing document":     {`{`, `{} {`},
	} {
		doc := strings.Replace(string(sample), change[0], change[1], 1)
		if doc == string(sample) {
			t.Errorf("%s: %q is not in the sample", name, change[0])
		}
		if _, err := ParseTopology([]byte(doc)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Two servers made from one topology share nothing.
func TestTopologyIsNotShared(t *testing.T) {
	one := start(t, nil)
	two, err := New(Config{Topology: one.cfg.Topology, BaseURL: "https://localhost"})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := two.NSG(web)
	one.want(200, "", "PUT", https, sshAt(150))
	one.want(200, "", "PUT", web, whole())
	after, _ := two.NSG(web)
	if string(before) != string(after) {
		t.Errorf("a write to one server changed another:\n%s\n%s", before, after)
	}
	if _, ok := two.NSG(nsgs + "/none"); ok {
		t.Error("NSG found a group that is not there")
	}
}

func FuzzParseTopology(f *testing.F) {
	sample, err := os.ReadFile("../../../docs/examples/topology.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add([]byte(`{"subscription":"00000000-0000-0000-0000-000000000001","resourceGroup":"g","location":"l"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		topology, err := ParseTopology(data)
		if err != nil {
			return
		}
		s, err := New(Config{Topology: topology, BaseURL: "https://localhost"})
		if err != nil {
			t.Fatalf("parsed, but New refuses it: %v", err)
		}
		for _, g := range topology.NetworkSecurityGroups {
			raw, ok := s.NSG(topology.groupID(g.Name))
			if !ok || !json.Valid(raw) {
				t.Fatalf("no group %q: %s", g.Name, raw)
			}
		}
	})
}
