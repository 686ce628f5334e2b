package tables

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func entity(row string, p map[string]any) aztables.EDMEntity {
	return aztables.EDMEntity{Entity: aztables.Entity{PartitionKey: "p", RowKey: row}, Properties: p}
}

func get(t *testing.T, c *aztables.Client, row string) aztables.EDMEntity {
	t.Helper()
	res, err := c.GetEntity(t.Context(), "p", row, nil)
	if err != nil {
		t.Fatal(err)
	}
	var e aztables.EDMEntity
	if err := json.Unmarshal(res.Value, &e); err != nil {
		t.Fatal(err)
	}
	if e.ETag != string(res.ETag) {
		t.Errorf("the body says %s, the header %s", e.ETag, res.ETag)
	}
	return e
}

// TestEveryClient does a round trip with each credential and style of URL.
func TestEveryClient(t *testing.T) {
	h := newHarness(t)
	clients := map[string]*aztables.ServiceClient{
		"token, emulator style":      h.withToken(t, h.web.URL+"/"+testAccount),
		"token, endpoint style":      h.withToken(t, h.web.URL),
		"shared key, emulator style": h.withKey(t, h.web.URL+"/"+testAccount),
		"shared key, endpoint style": h.withKey(t, h.web.URL+"/"),
	}
	sas, err := clients["shared key, endpoint style"].GetAccountSASURL(
		aztables.AccountSASResourceTypes{Service: true, Container: true, Object: true},
		aztables.AccountSASPermissions{Read: true, Write: true, Delete: true, List: true, Add: true, Create: true, Update: true},
		time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if clients["account SAS"], err = aztables.NewServiceClientWithNoCredential(sas, h.options()); err != nil {
		t.Fatal(err)
	}
	for name, service := range clients {
		t.Run(name, func(t *testing.T) {
			c := service.NewClient("Things")
			if _, err := c.CreateTable(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			_, err := c.CreateTable(t.Context(), nil)
			wantCode(t, err, 409, aztables.TableAlreadyExists)
			e := marshal(t, entity("r", map[string]any{"N": int32(1)}))
			if _, err := c.AddEntity(t.Context(), e, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := c.SubmitTransaction(t.Context(), []aztables.TransactionAction{
				{ActionType: aztables.TransactionTypeDelete, Entity: e},
				{ActionType: aztables.TransactionTypeAdd, Entity: marshal(t, entity("s", nil))},
			}, nil); err != nil {
				t.Fatal(err)
			}
			_, err = c.GetEntity(t.Context(), "p", "r", nil)
			wantCode(t, err, 404, aztables.ResourceNotFound)
			page, err := service.NewListTablesPager(nil).NextPage(t.Context())
			if err != nil || len(page.Tables) != 1 || *page.Tables[0].Name != "Things" {
				t.Errorf("got %+v, %v", page, err)
			}
			if _, err := c.Delete(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			_, err = c.Delete(t.Context(), nil)
			wantCode(t, err, 404, aztables.ResourceNotFound)
			_, err = c.AddEntity(t.Context(), e, nil)
			wantCode(t, err, 404, aztables.TableNotFound)
		})
	}
}

func TestEveryTypeSurvives(t *testing.T) {
	c := newHarness(t).table(t)
	want := map[string]any{
		"S": "o'clock <&> \"ü\"", "Empty": "", "I": int32(-5), "Max": int32(math.MaxInt32), "L": aztables.EDMInt64(math.MinInt64),
		"D": 1.5, "B": true, "When": aztables.EDMDateTime(time.Date(2020, 1, 2, 3, 4, 5, 123456700, time.UTC)),
		"G": aztables.EDMGUID("0f0e0d0c-0b0a-0908-0706-050403020100"), "Bin": aztables.EDMBinary{0, 1, 255}, "Big": 1e300,
		"ꀕ": "name",
	}
	res, err := c.AddEntity(t.Context(), marshal(t, entity("r", want)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := get(t, c, "r")
	if !reflect.DeepEqual(got.Properties, want) {
		t.Errorf("got %v\nwant %v", got.Properties, want)
	}
	if got.ETag != string(res.ETag) || time.Since(time.Time(got.Timestamp)).Abs() > time.Minute {
		t.Errorf("ETag %s, inserted as %s, timestamp %v", got.ETag, res.ETag, time.Time(got.Timestamp))
	}
	stamp := url.QueryEscape(time.Time(got.Timestamp).Format("2006-01-02T15:04:05.9999999Z"))
	if got.ETag != `W/"datetime'`+stamp+`'"` {
		t.Errorf("ETag %s does not carry the timestamp %s", got.ETag, stamp)
	}
}

func TestWrites(t *testing.T) {
	c := newHarness(t).table(t)
	ctx := t.Context()
	added, err := c.AddEntity(ctx, marshal(t, entity("r", map[string]any{"A": "1", "B": "1"})), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.AddEntity(ctx, marshal(t, entity("r", nil)), nil)
	wantCode(t, err, 409, aztables.EntityAlreadyExists)

	merged, err := c.UpdateEntity(ctx, marshal(t, entity("r", map[string]any{"B": "2"})), &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeMerge, IfMatch: &added.ETag})
	if err != nil {
		t.Fatal(err)
	}
	if p := get(t, c, "r").Properties; p["A"] != "1" || p["B"] != "2" {
		t.Errorf("merged to %v", p)
	}
	for _, mode := range aztables.PossibleUpdateModeValues() {
		_, err = c.UpdateEntity(ctx, marshal(t, entity("r", nil)), &aztables.UpdateEntityOptions{UpdateMode: mode, IfMatch: &added.ETag})
		wantCode(t, err, 412, aztables.UpdateConditionNotSatisfied)
		_, err = c.UpdateEntity(ctx, marshal(t, entity("gone", nil)), &aztables.UpdateEntityOptions{UpdateMode: mode})
		wantCode(t, err, 404, aztables.ResourceNotFound)
	}
	if _, err = c.UpdateEntity(ctx, marshal(t, entity("r", map[string]any{"C": "3"})), &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeReplace, IfMatch: &merged.ETag}); err != nil {
		t.Fatal(err)
	}
	if p := get(t, c, "r").Properties; len(p) != 1 || p["C"] != "3" {
		t.Errorf("replaced by %v", p)
	}
	if _, err = c.UpsertEntity(ctx, marshal(t, entity("r", map[string]any{"D": "4"})), nil); err != nil {
		t.Fatal(err)
	}
	upserted, err := c.UpsertEntity(ctx, marshal(t, entity("new", map[string]any{"D": "4"})), &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	if err != nil || string(upserted.ETag) != get(t, c, "new").ETag {
		t.Fatalf("%+v, %v", upserted, err)
	}
	_, err = c.DeleteEntity(ctx, "p", "r", &aztables.DeleteEntityOptions{IfMatch: &added.ETag})
	wantCode(t, err, 412, aztables.UpdateConditionNotSatisfied)
	_, err = c.DeleteEntity(ctx, "p", "r", &aztables.DeleteEntityOptions{IfMatch: to.Ptr(azcore.ETag("rubbish"))})
	wantCode(t, err, 400, aztables.InvalidInput)
	if _, err = c.DeleteEntity(ctx, "p", "r", nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteEntity(ctx, "p", "r", nil)
	wantCode(t, err, 404, aztables.ResourceNotFound)
}

func TestKeysOfAllKinds(t *testing.T) {
	c := newHarness(t).table(t)
	for _, k := range []string{" ", "a'b", "''", "a b+c%20d", "ü€😀", "(x)", "a,RowKey='b'", "&=;:@$!*", `"`, "<>", "Tables", "%2F"} {
		body := marshal(t, map[string]string{"PartitionKey": k, "RowKey": k})
		if _, err := c.AddEntity(t.Context(), body, nil); err != nil {
			t.Errorf("%q: %v", k, err)
			continue
		}
		if _, err := c.GetEntity(t.Context(), k, k, nil); err != nil {
			t.Errorf("%q: %v", k, err)
		}
		filter := "RowKey eq '" + strings.ReplaceAll(k, "'", "''") + "'"
		if page, err := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter}).NextPage(t.Context()); err != nil || len(page.Entities) != 1 {
			t.Errorf("%q: %v, %v", k, page, err)
		}
		if _, err := c.UpdateEntity(t.Context(), body, nil); err != nil {
			t.Errorf("%q: %v", k, err)
		}
		if _, err := c.DeleteEntity(t.Context(), k, k, nil); err != nil {
			t.Errorf("%q: %v", k, err)
		}
	}
	_, err := c.AddEntity(t.Context(), []byte(`{"PartitionKey":"a/b","RowKey":"r"}`), nil)
	wantCode(t, err, 400, aztables.OutOfRangeInput)
	if _, err := c.AddEntity(t.Context(), []byte(`{"PartitionKey":"p","RowKey":""}`), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetEntity(t.Context(), "p", "", nil); err != nil {
		t.Errorf("an empty row key: %v", err)
	}
}

func TestPaging(t *testing.T) {
	h := newHarness(t)
	h.PageSize = 4
	c := h.table(t)
	for i := range 10 {
		if _, err := c.AddEntity(t.Context(), marshal(t, entity(fmt.Sprint(i), map[string]any{"Value": int32(i)})), nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		options aztables.ListEntitiesOptions
		pages   []int
	}{
		"all":              {aztables.ListEntitiesOptions{}, []int{4, 4, 2}},
		"filter":           {aztables.ListEntitiesOptions{Filter: to.Ptr("Value ge 2 and Value ne 5")}, []int{4, 3}},
		"partition":        {aztables.ListEntitiesOptions{Filter: to.Ptr("PartitionKey eq 'p' and RowKey lt '8'")}, []int{4, 4}},
		"nothing":          {aztables.ListEntitiesOptions{Filter: to.Ptr("PartitionKey eq 'q'")}, []int{0}},
		"top":              {aztables.ListEntitiesOptions{Top: to.Ptr(int32(3))}, []int{3, 3, 3, 1}},
		"top over a page":  {aztables.ListEntitiesOptions{Top: to.Ptr(int32(1000))}, []int{4, 4, 2}},
		"selected columns": {aztables.ListEntitiesOptions{Select: to.Ptr("RowKey, Value")}, []int{4, 4, 2}},
	} {
		var pages []int
		var rows []string
		for p := c.NewListEntitiesPager(&test.options); p.More(); {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(name, err)
			}
			pages = append(pages, len(page.Entities))
			for _, b := range page.Entities {
				var e aztables.EDMEntity
				if err := json.Unmarshal(b, &e); err != nil {
					t.Fatal(err)
				}
				if test.options.Select != nil && (e.PartitionKey != "" || e.RowKey == "" || len(e.Properties) != 1 || e.ETag == "") {
					t.Errorf("selected %s", b)
				}
				rows = append(rows, e.RowKey)
			}
		}
		if !reflect.DeepEqual(pages, test.pages) {
			t.Errorf("%s: pages of %v, want %v", name, pages, test.pages)
		}
		for i := 1; i < len(rows); i++ {
			if rows[i-1] >= rows[i] {
				t.Errorf("%s: out of order: %v", name, rows)
			}
		}
	}
	for _, top := range []int32{0, -1, 1001} {
		_, err := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Top: &top}).NextPage(t.Context())
		wantCode(t, err, 400, aztables.InvalidInput)
	}
	_, err := c.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: to.Ptr("RowKey eq 'open")}).NextPage(t.Context())
	wantCode(t, err, 400, aztables.InvalidInput)
}

func TestListTables(t *testing.T) {
	h := newHarness(t)
	h.PageSize = 2
	c := h.withKey(t, h.web.URL+"/"+testAccount)
	for _, name := range []string{"zzza0", "zzza1", "zzzA2", "zzzb0"} {
		if _, err := c.CreateTable(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for p := c.NewListTablesPager(&aztables.ListTablesOptions{Filter: to.Ptr("TableName lt 'zzzb'")}); p.More(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Tables) > 2 {
			t.Errorf("a page of %d", len(page.Tables))
		}
		for _, table := range page.Tables {
			got = append(got, *table.Name)
		}
	}
	if want := []string{"zzza0", "zzza1", "zzzA2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTransactions(t *testing.T) {
	c := newHarness(t).table(t)
	action := func(kind aztables.TransactionType, row string, p map[string]any) aztables.TransactionAction {
		return aztables.TransactionAction{ActionType: kind, Entity: marshal(t, entity(row, p))}
	}
	rows := func() (rows []string) {
		page, err := c.NewListEntitiesPager(nil).NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Entities {
			var e aztables.EDMEntity
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, e.RowKey)
		}
		return rows
	}
	var hundred []aztables.TransactionAction
	for i := range 100 {
		hundred = append(hundred, action(aztables.TransactionTypeAdd, fmt.Sprintf("%03d", i), map[string]any{"N": aztables.EDMInt64(i)}))
	}
	if _, err := c.SubmitTransaction(t.Context(), hundred, nil); err != nil || len(rows()) != 100 {
		t.Fatal(err)
	}
	for i := range hundred {
		hundred[i].ActionType = aztables.TransactionTypeDelete
	}
	if _, err := c.SubmitTransaction(t.Context(), hundred, nil); err != nil || len(rows()) != 0 {
		t.Fatal(err)
	}
	if _, err := c.SubmitTransaction(t.Context(), []aztables.TransactionAction{
		action(aztables.TransactionTypeAdd, "a", nil), action(aztables.TransactionTypeInsertMerge, "b", nil), action(aztables.TransactionTypeInsertReplace, "c", nil),
	}, nil); err != nil {
		t.Fatal(err)
	}
	stale := action(aztables.TransactionTypeUpdateMerge, "b", nil)
	stale.IfMatch = to.Ptr(azcore.ETag(`W/"datetime'2020-01-01T00%3A00%3A00Z'"`))
	elsewhere := aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: []byte(`{"PartitionKey":"q","RowKey":"e"}`)}
	for _, test := range []struct {
		last aztables.TransactionAction
		want string
	}{
		{action(aztables.TransactionTypeAdd, "a", nil), "EntityAlreadyExists"},
		{action(aztables.TransactionTypeAdd, "d", nil), "InvalidDuplicateRow"},
		{action(aztables.TransactionTypeDelete, "gone", nil), "ResourceNotFound"},
		{stale, "UpdateConditionNotSatisfied"},
		{elsewhere, "CommandsInBatchActOnDifferentPartitions"},
		{aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: []byte(`{"PartitionKey":"p","RowKey":"x","a-b":1}`)}, "PropertyNameInvalid"},
	} {
		_, err := c.SubmitTransaction(t.Context(), []aztables.TransactionAction{action(aztables.TransactionTypeAdd, "d", nil), action(aztables.TransactionTypeDelete, "c", nil), test.last}, nil)
		var e *azcore.ResponseError
		if !errors.As(err, &e) || e.StatusCode != 202 || !strings.Contains(err.Error(), `"`+test.want+`"`) || !strings.Contains(err.Error(), `"2:`) {
			t.Errorf("got %v, want %s at 2", err, test.want)
		}
		if got := rows(); !reflect.DeepEqual(got, []string{"a", "b", "c"}) {
			t.Fatalf("%s: a refused transaction left %v", test.want, got)
		}
	}
}
