package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	demanding = subscriptionPath + "/resourceGroups/prod/virtualMachines/web-1"
	demands   = `{"scope":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1",
"ports":[{"number":8022,"protocol":"TCP","allowedSourceAddressPrefix":"203.0.113.0/24","maxRequestAccessDuration":"PT1H"}],"requestors":["alice@contoso.com"],"baseline":false,
"ticket":{"sources":["itsm"],"states":["Approved"],"assignedToRequestor":true,"maxEventAge":"PT1H"},
"condition":"machine.tags.Environment == \"production\" && machine.os == \"Linux\" && now.getHours(\"Asia/Kolkata\") >= 0","conditionMessage":"Ask for production."}`
	onDemand = `{"justification":"x","ticket":"CHG0001","virtualMachines":[{"id":"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1",
"ports":[{"number":8022,"allowedSourceAddressPrefix":"203.0.113.9","duration":"PT10M"}]}]}`
)

// TestATicketAndTheMachineOpenADoor holds a policy's demands against a ticket in
// Table Storage and the tags that Resource Manager tells.
func TestATicketAndTheMachineOpenADoor(t *testing.T) {
	a := newAPI(t)
	admin, err := w.token(t.Context(), "admin@contoso.com", "--role", "Portcullis.Administer")
	if err != nil {
		t.Fatal(err)
	}
	stored := a.call(admin, "PUT", demanding, demands, "If-None-Match", "*")
	if stored.status != http.StatusOK {
		t.Fatalf("%d %s", stored.status, stored.body)
	}
	etag := stored.etag
	defer func() {
		if gone := a.call(admin, "DELETE", demanding, "", "If-Match", etag); gone.status != http.StatusOK {
			t.Errorf("%d %s", gone.status, gone.body)
		}
	}()
	if bad := a.call(admin, "PUT", demanding, strings.Replace(demands, "machine.os", "machine.oz", 1), "If-Match", etag); bad.status != http.StatusBadRequest || !strings.Contains(string(bad.body), "line 1, column") {
		t.Errorf("%d %s", bad.status, bad.body)
	}
	refused := func(reason string) {
		t.Helper()
		if got := a.call(w.alice, "POST", "/api/access-requests", onDemand); got.status != http.StatusForbidden || got.reason != reason {
			t.Errorf("want %s: %d %s", reason, got.status, got.body)
		}
	}
	refused("ticket_unknown")
	id := access.TicketID{Source: "itsm", Key: "CHG0001"}
	event := func(state string, ended bool) {
		t.Helper()
		k, err := w.store.Ticket(t.Context(), id)
		if err != nil && access.CodeOf(err) != access.NotFound {
			t.Fatal(err)
		}
		k.ID, k.State, k.Assignee, k.SetBy, k.Ended, k.Event, k.EventAt = id, state, "alice@contoso.com", "boss@contoso.com", ended, "event-"+state, time.Now()
		if err := w.store.SaveTicket(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	event("New", false)
	refused("ticket_state")
	event("Approved", false)
	made := a.call(w.alice, "POST", "/api/access-requests", onDemand)
	var request struct {
		ID              string
		VirtualMachines []struct {
			Ports []struct {
				Ticket struct{ Source, Key, Event string }
			}
		}
	}
	if err := json.Unmarshal(made.body, &request); err != nil || made.status != http.StatusAccepted {
		t.Fatalf("%d %s", made.status, made.body)
	}
	if v := request.VirtualMachines[0].Ports[0].Ticket; v.Source != "itsm" || v.Key != "CHG0001" || v.Event != "event-Approved" {
		t.Errorf("vouched by %+v", v)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := a.call(w.alice, "GET", "/api/access-requests/"+request.ID, "")
		if strings.Contains(string(got.body), `"Initiated"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it never opened: %s", got.body)
		}
	}
	event("Closed", true)
	refused("ticket_ended")
	event("Approved", false)
	other := a.call(admin, "PUT", demanding, strings.Replace(demands, `\"production\"`, `\"test\"`, 1), "If-Match", etag)
	if other.status != http.StatusOK || !strings.Contains(string(other.body), "Ask for production.") { // the live grant is named
		t.Fatalf("%d %s", other.status, other.body)
	}
	etag = other.etag
	refused("condition_not_met")
	if back := a.call(w.alice, "POST", "/api/access-requests/"+request.ID+"/revoke", "{}"); back.status != http.StatusAccepted {
		t.Errorf("%d %s", back.status, back.body)
	}
}
