package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/audit"
)

var start = time.Date(2026, 11, 26, 9, 0, 0, 123456789, time.UTC)

func chain(t *testing.T, n int) (events []access.Event, seals []audit.Seal) {
	t.Helper()
	var last audit.Seal
	for i := range n {
		e := access.Event{Subject: "ar-1", Kind: access.EventOpened, At: start.Add(time.Duration(i)), Actor: "alice", Key: fmt.Sprint(i), Detail: map[string]string{"b": "2", "a": "1"}}
		s, err := audit.Next(last, e, start.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		last = s
		events, seals = append(events, e), append(seals, s)
	}
	return events, seals
}

func problems(found []audit.Finding) (out []audit.Problem) {
	for _, f := range found {
		out = append(out, f.Problem)
	}
	return out
}

func TestAChainIsWholeAfterBeingStored(t *testing.T) {
	events, seals := chain(t, 4)
	for _, v := range []any{&events, &seals} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, v); err != nil {
			t.Fatal(err)
		}
	}
	if found := audit.Verify("ar-1", events, seals, start.Add(time.Hour)); len(found) > 0 {
		t.Errorf("an untouched chain: %+v", found)
	}
}

func TestEveryEditAndGapIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(events *[]access.Event, seals *[]audit.Seal)
		want []audit.Problem
	}{
		"a word of an event":       {func(e *[]access.Event, _ *[]audit.Seal) { (*e)[1].Detail["a"] = "0" }, []audit.Problem{audit.EventAltered}},
		"its time":                 {func(e *[]access.Event, _ *[]audit.Seal) { (*e)[1].At = start }, []audit.Problem{audit.EventAltered}},
		"its actor":                {func(e *[]access.Event, _ *[]audit.Seal) { (*e)[1].Actor = "bob" }, []audit.Problem{audit.EventAltered}},
		"an event taken out":       {func(e *[]access.Event, _ *[]audit.Seal) { *e = slices.Delete(*e, 1, 2) }, []audit.Problem{audit.EventMissing}},
		"with its seal":            {func(e *[]access.Event, s *[]audit.Seal) { *e, *s = slices.Delete(*e, 1, 2), slices.Delete(*s, 1, 2) }, []audit.Problem{audit.SealMissing, audit.SealAltered}},
		"the first, with its seal": {func(e *[]access.Event, s *[]audit.Seal) { *e, *s = (*e)[1:], (*s)[1:] }, []audit.Problem{audit.SealMissing, audit.SealAltered}},
		"an event put in": {func(e *[]access.Event, _ *[]audit.Seal) {
			*e = append(*e, access.Event{Subject: "ar-1", Kind: access.EventClosed, At: start})
		}, []audit.Problem{audit.EventUnsealed}},
		"a seal made anew": {func(e *[]access.Event, s *[]audit.Seal) {
			(*e)[1].Actor = "bob"
			(*s)[1], _ = audit.Next((*s)[0], (*e)[1], start.Add(time.Hour))
		}, []audit.Problem{audit.SealAltered}},
		"two seals in the other's place": {func(_ *[]access.Event, s *[]audit.Seal) { (*s)[1].Event, (*s)[2].Event = (*s)[2].Event, (*s)[1].Event }, []audit.Problem{audit.SealAltered, audit.EventAltered, audit.SealAltered, audit.EventAltered}},
	} {
		events, seals := chain(t, 4)
		c.edit(&events, &seals)
		if got := problems(audit.Verify("ar-1", events, seals, start.Add(time.Hour))); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v, want %v", name, got, c.want)
		}
	}
}

func TestWhatCannotBeSealedYetIsNoFinding(t *testing.T) {
	events, seals := chain(t, 2)
	if found := audit.Verify("ar-1", events, seals[:1], start); len(found) > 0 {
		t.Errorf("%+v", found)
	}
}
