package rights_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/rights"
)

const (
	subscription = "00000000-0000-0000-0000-000000000001"
	scope        = "/subscriptions/" + subscription
	principal    = "00000000-0000-0000-0000-00000000000a"
	role         = scope + "/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-00000000000b"
)

type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func reader(t *testing.T, answer http.HandlerFunc) *rights.Reader {
	t.Helper()
	web := httptest.NewTLSServer(answer)
	t.Cleanup(web.Close)
	o := arm.ClientOptions{}
	o.Transport = web.Client()
	o.Retry.MaxRetries = -1
	o.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: web.URL, Audience: "a"}}}
	r, err := rights.New(credential{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRightsAreThoseOfTheRolesAssigned(t *testing.T) {
	var filters []string
	r := reader(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/roleAssignments"):
			filters = append(filters, r.URL.Query().Get("$filter"))
			fmt.Fprintf(w, `{"value":[{"properties":{"roleDefinitionId":%q,"scope":%q,"principalId":%q}}]}`, role, scope, principal)
		case r.URL.Path == role:
			fmt.Fprint(w, `{"properties":{"permissions":[{"actions":["Microsoft.Network/*"],"notActions":["*/delete"],"dataActions":["Microsoft.ServiceBus/*"],"notDataActions":["*/receive/action"]}]}}`)
		default:
			http.NotFound(w, r)
		}
	})
	got, err := r.Rights(t.Context(), scope, principal)
	if err != nil || len(got) != 1 || got[0].Scope != scope || got[0].Actions[0] != "Microsoft.Network/*" || got[0].NotActions[0] != "*/delete" {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = r.RightsWithin(t.Context(), scope, principal)
	if err != nil || len(got) != 1 || got[0].DataActions[0] != "Microsoft.ServiceBus/*" || got[0].NotDataActions[0] != "*/receive/action" {
		t.Errorf("%+v, %v", got, err)
	}
	if of := "assignedTo('" + principal + "')"; !slices.Equal(filters, []string{"atScope() and " + of, of}) {
		t.Errorf("filters %q", filters)
	}
	if _, err := r.Rights(t.Context(), scope, "x') or ('1' eq '1"); access.ReasonOf(err) != "principal_invalid" {
		t.Errorf("a filter can be smuggled in: %v", err)
	}
}

func TestLocksOfEveryPage(t *testing.T) {
	r := reader(t, func(w http.ResponseWriter, r *http.Request) {
		const lock = `{"id":%q,"name":%q,"properties":{"level":"CanNotDelete"}}`
		at := scope + "/resourceGroups/g/providers/Microsoft.Authorization/locks/"
		if r.URL.Query().Get("page") == "" {
			fmt.Fprintf(w, `{"value":[`+lock+`],"nextLink":"https://%s%s?api-version=2020-05-01&page=2"}`, at+"a", "a", r.Host, r.URL.Path)
			return
		}
		fmt.Fprintf(w, `{"value":[`+lock+`],"nextLink":"https://elsewhere.example.com/"}`, at+"b", "b")
	})
	got, err := r.Locks(t.Context(), scope)
	if err != nil || len(got) != 2 || got[1] != (rights.Lock{Name: "b", Level: "CanNotDelete", Scope: scope + "/resourceGroups/g"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWhatCannotBeReadIsAnError(t *testing.T) {
	r := reader(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"AuthorizationFailed","message":"no"}}`)
	})
	_, err := r.Rights(t.Context(), scope, principal)
	_, err2 := r.Locks(t.Context(), scope)
	for _, err := range []error{err, err2} {
		if access.ReasonOf(err) != "rights_unreadable" || !strings.Contains(err.Error(), "AuthorizationFailed") {
			t.Errorf("%v", err)
		}
	}
}
