package tables

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// plan sets a plan of one rule.
func (h *harness) plan(t *testing.T, on string, do fault.Kind, delay time.Duration) {
	t.Helper()
	if err := h.Faults().Set(fault.Plan{Rules: []fault.Rule{{On: on, Do: do, Delay: fault.Duration(delay), Times: 1}}}); err != nil {
		t.Fatal(err)
	}
}

// struck fails the test unless the rule of the plan struck once.
func (h *harness) struck(t *testing.T) {
	t.Helper()
	if _, counts := h.Faults().State(); counts[0].Struck != 1 {
		t.Errorf("the rule fared so: %+v", counts)
	}
}

func has(t *testing.T, c *aztables.Client, row string) bool {
	t.Helper()
	_, err := c.GetEntity(t.Context(), "p", row, nil)
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.ErrorCode == string(aztables.ResourceNotFound) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

func TestRefusalsOnDemand(t *testing.T) {
	h := newHarness(t)
	c := h.table(t)
	added, err := c.AddEntity(t.Context(), marshal(t, entity("old", nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	insert := func() error { _, err := c.AddEntity(t.Context(), marshal(t, entity("new", nil)), nil); return err }
	upsert := func() error {
		_, err := c.UpsertEntity(t.Context(), marshal(t, entity("new", nil)), nil)
		return err
	}
	update := func() error {
		_, err := c.UpdateEntity(t.Context(), marshal(t, entity("old", nil)), &aztables.UpdateEntityOptions{IfMatch: &added.ETag, UpdateMode: aztables.UpdateModeReplace})
		return err
	}
	remove := func() error { _, err := c.DeleteEntity(t.Context(), "p", "old", nil); return err }
	query := func() error { _, err := c.NewListEntitiesPager(nil).NextPage(t.Context()); return err }
	get := func() error { _, err := c.GetEntity(t.Context(), "p", "old", nil); return err }
	batch := func() error {
		_, err := c.SubmitTransaction(t.Context(), []aztables.TransactionAction{{ActionType: aztables.TransactionTypeAdd, Entity: marshal(t, entity("new", nil))}}, nil)
		return err
	}
	for name, test := range map[string]struct {
		on     string
		do     fault.Kind
		call   func() error
		status int
		code   aztables.TableErrorCode
	}{
		"throttled insert":        {"insert people", fault.Throttle, insert, 503, "ServerBusy"},
		"throttled query":         {"query people", fault.Throttle, query, 503, "ServerBusy"},
		"throttled batch":         {"batch People", fault.Throttle, batch, 503, "ServerBusy"},
		"refused get":             {"get people", fault.Refuse, get, 403, "AuthorizationPermissionMismatch"},
		"refused batch":           {"* people", fault.Refuse, batch, 403, "AuthorizationPermissionMismatch"},
		"conflict of an insert":   {"insert *", fault.Conflict, insert, 409, aztables.EntityAlreadyExists},
		"conflict under an ETag":  {"replace people", fault.Conflict, update, 412, aztables.UpdateConditionNotSatisfied},
		"conflict of an upsert":   {"merge people", fault.Conflict, upsert, 409, "TableBeingDeleted"},
		"conflict of If-Match: *": {"delete people", fault.Conflict, remove, 409, "TableBeingDeleted"},
	} {
		t.Run(name, func(t *testing.T) {
			h.plan(t, test.on, test.do, 0)
			wantCode(t, test.call(), test.status, test.code)
			h.struck(t)
			if has(t, c, "new") || !has(t, c, "old") {
				t.Error("it took effect")
			}
		})
	}
	if err := errors.Join(insert(), update(), remove(), query()); err != nil {
		t.Errorf("after the plans: %v", err)
	}
}

func TestThrottledClientsAreToldWhenToReturn(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	for delay, want := range map[time.Duration]string{0: "", 300 * time.Millisecond: "1", 2 * time.Second: "2"} {
		h.plan(t, "query people", fault.Throttle, delay)
		if got := h.raw(t, "GET", "/People", ""); got.status != 503 || got.code(t) != "ServerBusy" || got.header.Get("Retry-After") != want {
			t.Errorf("%v: got %d, Retry-After %q, want %q", delay, got.status, got.header.Get("Retry-After"), want)
		}
	}
	// The SDK tries again by itself, and comes through.
	o := h.options()
	o.Retry.MaxRetries, o.Retry.RetryDelay = 1, time.Millisecond
	service, err := aztables.NewServiceClient(h.web.URL, fakeCredential(goodToken), o)
	if err != nil {
		t.Fatal(err)
	}
	h.plan(t, "insert people", fault.Throttle, 0)
	if _, err := service.NewClient("People").AddEntity(t.Context(), marshal(t, entity("r", nil)), nil); err != nil {
		t.Error(err)
	}
	h.struck(t)
}

func TestConflictsInTransactions(t *testing.T) {
	h := newHarness(t)
	c := h.table(t)
	upsert := aztables.TransactionAction{ActionType: aztables.TransactionTypeInsertMerge, Entity: marshal(t, entity("a", nil))}
	update := aztables.TransactionAction{ActionType: aztables.TransactionTypeUpdateReplace, Entity: marshal(t, entity("b", nil)), IfMatch: to.Ptr(azcore.ETag(`W/"x"`))}
	insert := aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: marshal(t, entity("c", nil))}
	for want, actions := range map[string][]aztables.TransactionAction{
		`"1:The update condition`: {upsert, update, insert},
		`"EntityAlreadyExists"`:   {upsert, insert},
		`"0:The specified table`:  {upsert},
	} {
		h.plan(t, "batch people", fault.Conflict, 0)
		_, err := c.SubmitTransaction(t.Context(), actions, nil)
		if e, ok := errors.AsType[*azcore.ResponseError](err); !ok || e.StatusCode != 202 || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		h.struck(t)
		if has(t, c, "a") || has(t, c, "c") {
			t.Error("it took effect")
		}
	}
}

func TestLostConnections(t *testing.T) {
	h := newHarness(t)
	c := h.table(t)
	insert := func(row string) error {
		_, err := c.AddEntity(t.Context(), marshal(t, entity(row, nil)), nil)
		return err
	}
	batch := func(row string) error {
		_, err := c.SubmitTransaction(t.Context(), []aztables.TransactionAction{{ActionType: aztables.TransactionTypeAdd, Entity: marshal(t, entity(row, nil))}}, nil)
		return err
	}
	for name, test := range map[string]struct {
		do     fault.Kind
		on     string
		call   func(row string) error
		effect bool
	}{
		"dropped insert":             {fault.Drop, "insert people", insert, false},
		"dropped batch":              {fault.Drop, "batch people", batch, false},
		"lost answer to an insert":   {fault.LoseReply, "insert people", insert, true},
		"lost answer to a batch":     {fault.LoseReply, "batch people", batch, true},
		"lost answer to a 2nd batch": {fault.LoseReply, "batch *", batch, true},
	} {
		t.Run(name, func(t *testing.T) {
			h.plan(t, test.on, test.do, 0)
			if err := test.call(name); !errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
			h.struck(t)
			if has(t, c, name) != test.effect {
				t.Errorf("its effect: %v", !test.effect)
			}
			if err := test.call(name); (err != nil) != test.effect {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

func TestHeldOperations(t *testing.T) {
	h := newHarness(t)
	c := h.table(t)
	// An hour that nobody waits for: replacing the plan lets both go on.
	for row, do := range map[string]fault.Kind{"slow": fault.Slow, "paused": fault.Pause} {
		delay := time.Duration(0)
		if do == fault.Slow {
			delay = time.Hour
		}
		h.plan(t, "insert people", do, delay)
		done := make(chan error, 1)
		go func() {
			_, err := c.AddEntity(t.Context(), marshal(t, entity(row, nil)), nil)
			done <- err
		}()
		for {
			if _, counts := h.Faults().State(); counts[0].Struck == 1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if has(t, c, row) {
			t.Errorf("%s: it took effect before its time", row)
		}
		if err := h.Faults().Set(fault.Plan{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || !has(t, c, row) {
			t.Errorf("%s: %v", row, err)
		}
	}
}

func TestWhoeverLeavesWhileHeldHasDoneNothing(t *testing.T) {
	h := newHarness(t)
	c := h.table(t)
	h.plan(t, "insert people", fault.Pause, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "POST", "/People", strings.NewReader(`{"PartitionKey":"p","RowKey":"r"}`))
	r.Header.Set("Authorization", "Bearer "+goodToken)
	r.Header.Set("Accept", "application/json")
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("the connection did not end: %v", got)
		}
		h.struck(t)
		if has(t, c, "r") {
			t.Error("it took effect")
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func TestPlansAndCountsNeedNoCredential(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	if got := h.raw(t, "PUT", fault.Path, `{"rules":[{"on":"get-service","do":"refuse"}]}`, "Authorization: "); got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	for _, kind := range []string{"lock", "explode"} {
		if got := h.raw(t, "PUT", fault.Path, `{"rules":[{"on":"*","do":"`+kind+`"}]}`, "Authorization: "); got.status != 400 {
			t.Errorf("%s: got %d %s", kind, got.status, got.body)
		}
	}
	for _, request := range []string{
		"GET /?restype=service&comp=properties", "POST /People", "POST /People", "GET /People", "GET /PEOPLE()", "GET /Tables", "GET /Tables('People')",
		"GET /People(PartitionKey='p',RowKey='r')", "PATCH /People(PartitionKey='p',RowKey='r')", "PUT /People(PartitionKey='p',RowKey='r')",
		"MERGE /People(PartitionKey='p',RowKey='r')", "DELETE /People(PartitionKey='p',RowKey='r')", "GET /People?comp=acl", "PUT /?restype=service&comp=properties",
		"PATCH /People", "DELETE /Tables('Nobody')", "GET /$batch",
	} {
		method, path, _ := strings.Cut(request, " ")
		h.raw(t, method, path, "{}")
	}
	h.raw(t, "POST", "/$batch", rawBatch("DELETE "+h.web.URL+"/devstoreaccount1/People(PartitionKey='p',RowKey='r') HTTP/1.1\r\nIf-Match: *\r\n\r\n"), batchType)
	h.raw(t, "POST", "/$batch", rawBatch("DELETE %zz HTTP/1.1\r\n\r\n"), batchType)
	h.raw(t, "GET", "/People", "", "Authorization: ")
	want := `{"operations":{"acl people":1,"batch":1,"batch people":1,"create-table":1,"delete people":1,"delete-table nobody":1,"get people":1,` +
		`"get-service":1,"get-table people":1,"insert people":2,"merge people":2,"other":1,"other people":1,"query people":2,"query-tables":1,"replace people":1,"set-service":1}}`
	got := h.raw(t, "GET", "/_local/stats", "", "Authorization: ")
	if got.status != 200 || got.body != want {
		t.Errorf("got %d %s\nwant %s", got.status, got.body, want)
	}
	if b, err := json.Marshal(h.Stats()); err != nil || string(b) != want {
		t.Errorf("from Go %s, %v", b, err)
	}
	if got := h.raw(t, "DELETE", "/_local/stats", "", "Authorization: "); got.status != http.StatusMethodNotAllowed {
		t.Errorf("got %d", got.status)
	}
}
