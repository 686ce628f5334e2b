package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestSpreadOf(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		want    spread
	}{
		{"one", []float64{3}, spread{3, 3, 3}},
		{"odd, out of order", []float64{9, 1, 5}, spread{1, 5, 9}},
		{"even: the mean of the middle two", []float64{4, 1, 2, 100}, spread{1, 3, 100}},
	} {
		before := append([]float64(nil), c.samples...)
		if got := spreadOf(c.samples); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		for i := range before {
			if before[i] != c.samples[i] {
				t.Errorf("%s: the samples were put in another order", c.name)
			}
		}
	}
	if got := spreadOf(nil); !math.IsNaN(got.min) || !math.IsNaN(got.median) || !math.IsNaN(got.max) {
		t.Errorf("of no samples: %+v, want NaN", got)
	}
}

// The ratio told is that of the pairs, not that of the medians: here the
// medians are 2 and 10, and each pair is 1/5 or 2.
func TestRatiosArePairwise(t *testing.T) {
	m := measure{name: "x"}
	m.add(2, 10)
	m.add(20, 10)
	m.add(1, 5)
	got, err := m.ratios()
	if err != nil || len(got) != 3 || got[0] != 0.2 || got[1] != 2 || got[2] != 0.2 {
		t.Errorf("ratios %v, %v", got, err)
	}
}

func TestRatiosRefuseWhatIsNoPair(t *testing.T) {
	for name, m := range map[string]measure{
		"nothing":         {name: "x"},
		"one side more":   {name: "x", ours: []float64{1, 2}, base: []float64{1}},
		"baseline zero":   {name: "x", ours: []float64{1}, base: []float64{0}},
		"negative figure": {name: "x", ours: []float64{1}, base: []float64{-1}},
	} {
		if got, err := m.ratios(); err == nil {
			t.Errorf("%s: ratios %v, want an error", name, got)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		unit unit
		v    float64
		want string
	}{
		{milliseconds, 12.345, "12.3 ms"}, {milliseconds, 1.2345, "1.23 ms"}, {seconds, 0.0123, "0.012 s"}, {seconds, 210.4, "210 s"},
		{mebibytes, 15.06, "15.1 MiB"}, {perSecond, 12345.6, "12346/s"}, {count, 2, "2"}, {count, 2.5, "2.50"},
	} {
		if got := c.unit.format(c.v); got != c.want {
			t.Errorf("%v in %q: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
	if got := milliseconds.in(1500 * time.Microsecond); got != 1.5 {
		t.Errorf("1.5 ms is %v", got)
	}
	if got := seconds.in(1500 * time.Millisecond); got != 1.5 {
		t.Errorf("1.5 s is %v", got)
	}
}

func TestTable(t *testing.T) {
	m := &measure{name: "Door", baseline: "a plain door", unit: milliseconds}
	m.add(10, 5)
	m.add(30, 10)
	got, err := table([]*measure{m})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %s", len(lines), got)
	}
	for _, want := range []string{"| Door ", "| 20 ms ", "| 7.50 ms ", "| a plain door ", "| 2–**2.50**–3 ", "| 2 "} {
		if !strings.Contains(lines[2], want) {
			t.Errorf("the line lacks %q: %s", want, lines[2])
		}
	}
	for _, l := range lines {
		if strings.Count(l, "|") != 7 || len([]rune(l)) != len([]rune(lines[0])) {
			t.Errorf("not aligned: %s", l)
		}
	}
	if got := between([]float64{0.5}); got != "**0.50**" {
		t.Errorf("one ratio is told as %s", got)
	}
	if _, err := table([]*measure{{name: "empty"}}); err == nil {
		t.Error("a measure without samples made a table")
	}
}

func TestSplice(t *testing.T) {
	doc := "before\n" + beginMarker + "\nold\n" + endMarker + "\nafter\n"
	got, err := splice([]byte(doc), "new\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + beginMarker + "\n\nnew\n\n" + endMarker + "\nafter\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if again, err := splice(got, "new\n"); err != nil || string(again) != want {
		t.Errorf("a second time: %q, %v", again, err)
	}
	for _, bad := range []string{"", beginMarker, endMarker, endMarker + beginMarker} {
		if _, err := splice([]byte(bad), "new"); err == nil {
			t.Errorf("a document %q was taken", bad)
		}
	}
}

func TestExtra(t *testing.T) {
	more, ok := extra([]string{"a", "b", "a", "c"}, []string{"a", "c"})
	if !ok || strings.Join(more, "") != "ba" {
		t.Errorf("more %v, %v", more, ok)
	}
	for _, part := range [][]string{{"d"}, {"c", "a"}, {"a", "b", "c", "c"}} {
		if more, ok := extra([]string{"a", "b", "c"}, part); ok {
			t.Errorf("%v was found in abc, and %v besides", part, more)
		}
	}
}

func TestCallOf(t *testing.T) {
	for path, want := range map[string]string{
		"/devstoreaccount1/pending(PartitionKey='p',RowKey='r')":                                      "GET pending",
		"/devstoreaccount1/$batch":                                                                    "GET $batch",
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/web": "GET subnets",
	} {
		if got := callOf("GET", path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestKibibytes(t *testing.T) {
	const status = "Name:\thandler\nVmPeak:\t  999999 kB\nVmRSS:\t   16384 kB\nVmRSSx:\t 1 kB\n"
	if got, err := kibibytes(status, "VmRSS:"); err != nil || got != 16 {
		t.Errorf("%v MiB, %v", got, err)
	}
	if got, err := kibibytes(status, "Pss:"); err == nil {
		t.Errorf("a line that is not there gave %v", got)
	}
}
