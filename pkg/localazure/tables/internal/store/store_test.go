package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

type props = map[string]edm.Value

func newStore(t *testing.T) *store.Store {
	t.Helper()
	at := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC) // a clock that stands still
	s := store.New(func() time.Time { return at })
	if err := s.CreateTable("People"); err != nil {
		t.Fatal(err)
	}
	return s
}

func code(err error) tableerr.Code {
	if e, ok := tableerr.As(err); ok {
		return e.Code
	}
	return ""
}

func op(kind store.Kind, row, ifMatch string, p props) store.Op {
	return store.Op{Table: "People", Kind: kind, Key: store.Key{Partition: "p", Row: row}, IfMatch: ifMatch, Properties: p}
}

func apply(s *store.Store, ops ...store.Op) (*store.Entity, error) {
	out, err := s.Apply(ops)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

func TestTableNames(t *testing.T) {
	s := newStore(t)
	for name, want := range map[string]tableerr.Code{
		"abc": "", "A23": "", strings.Repeat("a", 63): "",
		"PEOPLE": tableerr.TableAlreadyExists, "ab": tableerr.OutOfRangeInput, strings.Repeat("a", 64): tableerr.OutOfRangeInput,
		"1abc": tableerr.InvalidResourceName, "a-bc": tableerr.InvalidResourceName, "täble": tableerr.InvalidResourceName, "Tables": tableerr.InvalidInput,
	} {
		if got := code(s.CreateTable(name)); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if name, err := s.TableName("people"); err != nil || name != "People" {
		t.Errorf("got %q, %v: a table keeps the name it was created with", name, err)
	}
	if err := s.DeleteTable("peOple"); err != nil {
		t.Error(err)
	}
	if got := code(s.DeleteTable("People")); got != tableerr.ResourceNotFound {
		t.Errorf("got %q", got)
	}
}

func TestConditions(t *testing.T) {
	s := newStore(t)
	first, err := apply(s, op(store.Insert, "r", "", props{"A": edm.OfInt32(1), "B": edm.OfInt32(2)}))
	if err != nil {
		t.Fatal(err)
	}
	second, err := apply(s, op(store.Merge, "r", first.ETag(), props{"B": edm.OfString("x")}))
	if err != nil {
		t.Fatal(err)
	}
	if second.ETag() == first.ETag() {
		t.Error("a write left the ETag as it was")
	}
	if second.Properties["A"] != edm.OfInt32(1) || second.Properties["B"] != edm.OfString("x") || first.Properties["B"] != edm.OfInt32(2) {
		t.Errorf("merged to %v, and the earlier version to %v", second.Properties, first.Properties)
	}
	for _, c := range []struct {
		op   store.Op
		want tableerr.Code
	}{
		{op(store.Insert, "r", "", nil), tableerr.EntityAlreadyExists},
		{op(store.Merge, "r", first.ETag(), nil), tableerr.UpdateConditionNotSatisfied},
		{op(store.Replace, "r", first.ETag(), nil), tableerr.UpdateConditionNotSatisfied},
		{op(store.Delete, "r", first.ETag(), nil), tableerr.UpdateConditionNotSatisfied},
		{op(store.Delete, "r", "", nil), tableerr.MissingRequiredHeader},
		{op(store.Merge, "gone", "*", nil), tableerr.ResourceNotFound},
		{op(store.Replace, "gone", first.ETag(), nil), tableerr.ResourceNotFound},
		{op(store.Delete, "gone", "*", nil), tableerr.ResourceNotFound},
		{store.Op{Table: "Nowhere", Kind: store.Insert}, tableerr.TableNotFound},
	} {
		if _, err := apply(s, c.op); code(err) != c.want {
			t.Errorf("%+v: got %v, want %s", c.op, err, c.want)
		}
	}
	if e, err := apply(s, op(store.Replace, "r", "", props{"C": edm.OfBool(true)})); err != nil || len(e.Properties) != 1 {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := apply(s, op(store.Merge, "new", "", props{"C": edm.OfBool(true)})); err != nil {
		t.Error(err)
	}
	if _, err := apply(s, op(store.Delete, "r", "*", nil)); err != nil {
		t.Error(err)
	}
	if _, err := s.Get("People", store.Key{Partition: "p", Row: "r"}); code(err) != tableerr.ResourceNotFound {
		t.Errorf("got %v", err)
	}
}

func TestLimits(t *testing.T) {
	s := newStore(t)
	many := func(n int) props {
		p := props{}
		for i := range n {
			p[fmt.Sprintf("p%d", i)] = edm.OfInt32(1)
		}
		return p
	}
	big := func(n int) props {
		p := props{}
		for i := range n {
			p[fmt.Sprintf("p%d", i)] = edm.OfBinary(make([]byte, 64<<10))
		}
		return p
	}
	for i, c := range []struct {
		row  string
		p    props
		want tableerr.Code
	}{
		{"", nil, ""},
		{strings.Repeat("r", 1024), nil, ""},
		{strings.Repeat("r", 1025), nil, tableerr.KeyValueTooLarge},
		{"a/b", nil, tableerr.OutOfRangeInput}, {`a\b`, nil, tableerr.OutOfRangeInput}, {"a#b", nil, tableerr.OutOfRangeInput},
		{"a?b", nil, tableerr.OutOfRangeInput}, {"a\tb", nil, tableerr.OutOfRangeInput}, {"a\u0085b", nil, tableerr.OutOfRangeInput},
		{"a\x7fb", nil, tableerr.OutOfRangeInput}, {"a\xffb", nil, tableerr.OutOfRangeInput},
		{"a'b %+ü", nil, ""},
		{"252", many(252), ""},
		{"253", many(253), tableerr.TooManyProperties},
		{"s", props{"S": edm.OfString(strings.Repeat("x", 32<<10))}, ""},
		{"s+", props{"S": edm.OfString(strings.Repeat("x", 32<<10+1))}, tableerr.PropertyValueTooLarge},
		{"b+", props{"B": edm.OfBinary(make([]byte, 64<<10+1))}, tableerr.PropertyValueTooLarge},
		{"1M-", big(15), ""},
		{"1M", big(16), tableerr.EntityTooLarge},
		{"n", props{strings.Repeat("n", 255): edm.OfInt32(1)}, ""},
		{"n+", props{strings.Repeat("n", 256): edm.OfInt32(1)}, tableerr.PropertyNameTooLong},
		{"n1", props{"_a1": edm.OfInt32(1), "ꀕ": edm.OfInt32(1)}, ""},
		{"n2", props{"a-b": edm.OfInt32(1)}, tableerr.PropertyNameInvalid},
		{"n3", props{"1a": edm.OfInt32(1)}, tableerr.PropertyNameInvalid},
		{"n4", props{"": edm.OfInt32(1)}, tableerr.PropertyNameInvalid},
		{"n5", props{"a b": edm.OfInt32(1)}, tableerr.PropertyNameInvalid},
	} {
		if _, err := apply(s, op(store.Insert, c.row, "", c.p)); code(err) != c.want {
			t.Errorf("case %d: got %v, want %q", i, err, c.want)
		}
	}
	if _, err := apply(s, op(store.Merge, "252", "*", props{"another": edm.OfInt32(1)})); code(err) != tableerr.TooManyProperties {
		t.Errorf("got %v: a merge must not go round the limits", err)
	}
}

func TestTransactionIsAtomic(t *testing.T) {
	s := newStore(t)
	old, err := apply(s, op(store.Insert, "a", "", props{"A": edm.OfInt32(1)}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apply(s, op(store.Insert, "b", "", nil)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Apply([]store.Op{
		op(store.Replace, "a", "*", nil), op(store.Delete, "b", "*", nil), op(store.Insert, "c", "", nil), op(store.Insert, "aa", "", nil),
		op(store.Merge, "gone", "*", nil), op(store.Insert, "d", "", nil),
	})
	var refused *store.OpError
	if !errors.As(err, &refused) || refused.Index != 4 || code(err) != tableerr.ResourceNotFound {
		t.Fatalf("got %v", err)
	}
	page, _, err := s.Query("People", store.Query{Match: func(*store.Entity) bool { return true }, Limit: 10})
	if err != nil || len(page) != 2 || page[0] != old || page[1].Key.Row != "b" {
		t.Errorf("after a refused transaction: %v, %v", page, err)
	}
}

func TestTransactionRules(t *testing.T) {
	s := newStore(t)
	if err := s.CreateTable("Other"); err != nil {
		t.Fatal(err)
	}
	many := make([]store.Op, 101)
	for i := range many {
		many[i] = op(store.Insert, fmt.Sprint(i), "", nil)
	}
	elsewhere, otherTable := op(store.Insert, "b", "", nil), op(store.Insert, "b", "", nil)
	elsewhere.Key.Partition, otherTable.Table = "q", "Other"
	for _, c := range []struct {
		ops   []store.Op
		index int
		want  tableerr.Code
	}{
		{many, 99, tableerr.InvalidInput},
		{[]store.Op{many[0], many[1], elsewhere}, 2, tableerr.CommandsInBatchActOnDifferentPartitions},
		{[]store.Op{many[0], otherTable}, 1, tableerr.CommandsInBatchActOnDifferentPartitions},
		{[]store.Op{many[0], many[1], op(store.Delete, "0", "*", nil)}, 2, tableerr.InvalidDuplicateRow},
		{[]store.Op{many[0], op(store.Insert, "a/b", "", nil)}, 1, tableerr.OutOfRangeInput},
	} {
		_, err := s.Apply(c.ops)
		var refused *store.OpError
		if !errors.As(err, &refused) || refused.Index != c.index || code(err) != c.want {
			t.Errorf("got %v, want %s at %d", err, c.want, c.index)
		}
	}
	if _, err := s.Apply(many[:100]); err != nil {
		t.Errorf("100 operations: %v", err)
	}
}

func TestQueryPages(t *testing.T) {
	s := newStore(t)
	var want []store.Key
	for _, p := range []string{"", "a", "b", "b\U00010000", "b\uFFFD"} {
		for _, r := range []string{"", "1", "10", "2"} {
			want = append(want, store.Key{Partition: p, Row: r})
		}
	}
	for _, k := range slices.Backward(want) {
		if _, err := s.Apply([]store.Op{{Table: "People", Key: k}}); err != nil {
			t.Fatal(err)
		}
	}
	var got []store.Key
	q := store.Query{Match: func(*store.Entity) bool { return true }, Limit: 3}
	for {
		page, next, err := s.Query("People", q)
		if err != nil || len(page) > 3 {
			t.Fatal(len(page), err)
		}
		for _, e := range page {
			got = append(got, e.Key)
		}
		if next == nil {
			break
		}
		q.From = next
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	partition := "b"
	page, next, err := s.Query("People", store.Query{Match: q.Match, Limit: 4, Partition: &partition})
	if err != nil || next != nil || len(page) != 4 || page[0].Key != (store.Key{Partition: "b"}) {
		t.Errorf("one partition: %v, %v, %v", page, next, err)
	}
}

func TestConcurrentConditionalWritesLoseNothing(t *testing.T) {
	s := newStore(t)
	k := store.Key{Partition: "p", Row: "counter"}
	if _, err := apply(s, op(store.Insert, k.Row, "", props{"N": edm.OfInt32(0)})); err != nil {
		t.Fatal(err)
	}
	const workers, rounds = 4, 25
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				e, err := s.Get("People", k)
				if err != nil {
					t.Error(err)
					return
				}
				var n int32
				for n = 0; e.Properties["N"] != edm.OfInt32(n); n++ {
				}
				_, err = apply(s, op(store.Merge, k.Row, e.ETag(), props{"N": edm.OfInt32(n + 1)}))
				if err == nil {
					done++
				} else if code(err) != tableerr.UpdateConditionNotSatisfied {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e, err := s.Get("People", k); err != nil || e.Properties["N"] != edm.OfInt32(workers*rounds) {
		t.Errorf("got %+v, %v", e, err)
	}
}
