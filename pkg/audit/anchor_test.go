package audit_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/audit"
)

var hour = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

func TestAnAnchorHasTheLastSealOfEachChain(t *testing.T) {
	seals := []audit.Seal{
		{Subject: "b", Seq: 1, Hash: "b1", At: hour}, {Subject: "a", Seq: 4, Hash: "a4", At: hour.Add(time.Minute)}, {Subject: "a", Seq: 3, Hash: "a3", At: hour.Add(59 * time.Minute)},
	}
	first, err := audit.NewAnchor("prod", hour, seals, nil, hour.Add(80*time.Minute)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	a, err := audit.ParseAnchor(first, hour)
	if want := []audit.Head{{Subject: "a", Seq: 4, Hash: "a4"}, {Subject: "b", Seq: 1, Hash: "b1"}}; err != nil || a.Count != 3 || a.Prev != "" || !reflect.DeepEqual(a.Heads, want) {
		t.Errorf("%+v, %v", a, err)
	}
	// The next one names it, and tells of what came late.
	next := audit.NewAnchor("prod", hour.Add(time.Hour), append(seals, audit.Seal{Subject: "c", Seq: 1, Hash: "c1", At: hour}), first, hour)
	if want := []audit.Head{{Subject: "c", Seq: 1, Hash: "c1"}}; next.Prev != audit.SumOf(first) || next.Count != 0 || next.Late != 1 || !reflect.DeepEqual(next.Heads, want) {
		t.Errorf("%+v", next)
	}
}

func TestWhatIsNoAnchor(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "x", "another hour": `{"hour":"2026-11-26T10:00:00Z"}`, "an unknown field": `{"hour":"2026-11-26T09:00:00Z","x":1}`,
		"two": `{"hour":"2026-11-26T09:00:00Z"}{}`, "fewer than none": `{"hour":"2026-11-26T09:00:00Z","count":-1}`, "an empty head": `{"hour":"2026-11-26T09:00:00Z","heads":[{}]}`,
	} {
		if _, err := audit.ParseAnchor([]byte(text), hour); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzParseAnchor(f *testing.F) {
	good, err := audit.NewAnchor("prod", hour, []audit.Seal{{Subject: "a", Seq: 1, Hash: "h", At: hour}}, nil, hour).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(strings.Repeat("[", 10_000))
	f.Fuzz(func(t *testing.T, s string) {
		a, err := audit.ParseAnchor([]byte(s), hour)
		if err != nil {
			return
		}
		data, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := audit.ParseAnchor(data, hour)
		if err != nil || len(again.Heads) != len(a.Heads) || again.Count != a.Count || again.Prev != a.Prev {
			t.Errorf("it came back another: %+v, %v", again, err)
		}
	})
}
