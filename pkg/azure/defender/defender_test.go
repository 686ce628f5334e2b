package defender_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/defender"
)

const subscription = "00000000-0000-0000-0000-000000000001"

type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func reader(t *testing.T, answer http.HandlerFunc) *defender.Reader {
	t.Helper()
	web := httptest.NewTLSServer(answer)
	t.Cleanup(web.Close)
	o := arm.ClientOptions{}
	o.Transport = web.Client()
	o.Retry.MaxRetries = -1
	o.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: web.URL, Audience: "a"}}}
	r, err := defender.New(credential{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryPageIsRead(t *testing.T) {
	const one = `{"kind":"Basic","name":%q,"properties":{"virtualMachines":[{"id":"/subscriptions/` + subscription + `/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v","ports":[{"number":22,"protocol":"*","allowedSourceAddressPrefix":"*","maxRequestAccessDuration":"PT3H"}]}],"requests":[{"requestor":"barbara@contoso.com","startTimeUtc":"2026-11-26T08:06:45.5691611Z","virtualMachines":[{"id":"x","ports":[{"number":22,"endTimeUtc":"2026-11-26T11:06:45.5691611Z","status":"Initiated","statusReason":"UserRequested"}]}]}]}}`
	r := reader(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.URL.Path, "/subscriptions/"+subscription+"/providers/Microsoft.Security/jitNetworkAccessPolicies") || r.URL.Query().Get("api-version") != "2020-01-01" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("page") == "" {
			fmt.Fprintf(w, `{"value":[`+one+`],"nextLink":"https://%s%s?api-version=2020-01-01&page=2"}`, "first", r.Host, r.URL.Path)
			return
		}
		fmt.Fprintf(w, `{"value":[`+one+`]}`, "second")
	})
	all, err := r.Policies(t.Context(), subscription)
	if err != nil || len(all) != 2 || all[1].Name != "second" {
		t.Fatalf("%+v, %v", all, err)
	}
	if p := all[0].Properties; p.VirtualMachines[0].Ports[0].MaxDuration != "PT3H" || p.Requests[0].Requestor != "barbara@contoso.com" || p.Requests[0].VirtualMachines[0].Ports[0].EndTime.IsZero() {
		t.Errorf("%+v", p)
	}
}

func TestARefusalSaysWhatItTakes(t *testing.T) {
	r := reader(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"AuthorizationFailed","message":"no"}}`)
	})
	_, err := r.Policies(t.Context(), subscription)
	if access.ReasonOf(err) != "defender_unreadable" || !strings.Contains(access.AsError(err).Message, "AuthorizationFailed") || !strings.Contains(access.AsError(err).Message, "jitNetworkAccessPolicies/read") {
		t.Errorf("%v", err)
	}
}
