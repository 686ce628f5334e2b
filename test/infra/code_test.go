package infra

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/test/infra/bicep"
	"sigs.k8s.io/yaml"
)

// TestTables: the deployment makes the tables that the code makes.
func TestTables(t *testing.T) {
	var made, deployed []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ TableName string }
		if data, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(data, &body) != nil {
			t.Errorf("%s %s cannot be read", r.Method, r.URL)
		}
		made = append(made, body.TableName)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer service.Close()
	client, err := aztables.NewServiceClientWithNoCredential(service.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err := tables.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	readJSON(t, "infra/tables.json", &deployed)
	same(t, "infra/tables.json", made, deployed)
}

// platform are the settings that the platform reads, and we do not.
var platform = []string{
	"AzureWebJobsStorage__accountName", "AzureWebJobsStorage__credential", "AzureWebJobsStorage__clientId",
	"APPLICATIONINSIGHTS_CONNECTION_STRING", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
	"OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID",
}

// TestSettings: every setting that the handler needs is set, none is unknown to
// it, and none is a secret.
func TestSettings(t *testing.T) {
	values := map[string]string{
		"FUNCTIONS_CUSTOMHANDLER_PORT": "8080", // the host sets it
		"AZURE_SUBSCRIPTION_IDS":       "00000000-0000-0000-0000-000000000001",
		"PORTCULLIS_TENANT_ID":         "00000000-0000-0000-0000-000000000002",
		"Tables__endpoint":             "https://a.table.core.windows.net",
		"PORTCULLIS_ANCHORS_URL":       "https://a.blob.core.windows.net/anchors",
	}
	env := map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": "8080"}
	known := map[string]config.Setting{}
	for _, s := range config.Settings() {
		known[s.Name] = s
	}
	for _, d := range bicepFiles(t)["modules/app.bicep"].Vars {
		if d.Name != "settings" {
			continue
		}
		own := d.Value.Items[1] // of union(extraSettings, { … }): what comes last counts
		for i, k := range own.Keys {
			s, ok := known[k.Text]
			switch {
			case !ok && !slices.Contains(platform, k.Text):
				t.Errorf("the setting %s is not one of ours", k.Text)
			case strings.Contains(s.Doc, "A secret."):
				t.Errorf("%s is a secret", k.Text)
			}
			env[k.Text] = "x"
			if v := own.Items[i]; v.Kind == bicep.String && len(v.Items) == 0 {
				env[k.Text] = v.Text
			}
			if v, ok := values[k.Text]; ok {
				env[k.Text] = v
			}
		}
	}
	if len(env) < 5 {
		t.Fatal("the settings are not where they are looked for")
	}
	// "x" stands for what only the deployment knows.
	if _, err := config.Load(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, config.All); err != nil {
		t.Errorf("the handler would not start: %v", err)
	}
}

// TestAppRoles: the app registration has the roles that the code asks for.
func TestAppRoles(t *testing.T) {
	var app struct {
		AppRoles []struct{ ID, Value string }
	}
	if err := json.Unmarshal([]byte(readFile(t, "infra/entra/application.json")), &app); err != nil {
		t.Fatal(err)
	}
	var deployed, ids []string
	for _, r := range app.AppRoles {
		if slices.Contains(ids, r.ID) {
			t.Errorf("%s is the id of two roles", r.ID)
		}
		deployed, ids = append(deployed, r.Value), append(ids, r.ID)
	}
	roles := []access.Role{access.RoleRequest, access.RoleRequestForOthers, access.RoleReadAll, access.RoleAdminister}
	var code []string
	for _, r := range roles {
		code = append(code, string(r))
	}
	// A role that is added to the package is to be added above.
	for _, s := range literals(goFiles(t, "pkg/access")) {
		if (strings.HasPrefix(s, "Access.") || strings.HasPrefix(s, "Portcullis.")) && !slices.Contains(code, s) {
			code = append(code, s)
		}
	}
	same(t, "infra/entra/application.json", code, deployed)
}

// TestAzdDeploysWhatIsStaged: azd finds the app by its tag, and the package where
// make puts it.
func TestAzdDeploysWhatIsStaged(t *testing.T) {
	var azd struct {
		Infra    struct{ Path, Module string }
		Services map[string]struct {
			Project, Host, Language, Dist string
			Hooks                         map[string]struct{ Shell, Run string }
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, "azure.yaml")), &azd); err != nil {
		t.Fatal(err)
	}
	var tag string
	for _, r := range bicepFiles(t)["modules/app.bicep"].Resources {
		if r.Name == "app" {
			tag = r.Value.Get("tags").Items[1].Get("azd-service-name").Text
		}
	}
	service, ok := azd.Services[tag]
	make := readFile(t, "Makefile")
	target, isMake := strings.CutPrefix(service.Hooks["prepackage"].Run, "make ")
	switch {
	case !ok:
		t.Errorf("azure.yaml has no service %q", tag)
	case service.Host != "function" || service.Language != "custom":
		t.Error("azd would build it by itself")
	case !strings.Contains(make, "APP      := "+service.Dist+"\n"):
		t.Errorf("make does not stage %s", service.Dist)
	case !isMake || !strings.Contains(make, "\n"+target+":"):
		t.Errorf("make has no target %q", target)
	}
	if files, err := filepath.Glob(filepath.Join(root, azd.Infra.Path, azd.Infra.Module+".bicep")); err != nil || len(files) != 1 {
		t.Error("azure.yaml names no main file")
	}
}
