package main

import (
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/test/bench/profile"
)

func TestTheProcessorTimeOfAProcess(t *testing.T) {
	const stat = "77 (a (bad) name) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 9 0 100 1000 20"
	if got, err := processorTime(stat); err != nil || got != 3*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "77 (x) S 1 2 3", "77 (x) S 1 77 77 0 -1 4194560 100 0 0 0 many 50 7", "77 (x) S 1 77 77 0 -1 4194560 100 0 0 0 1 many 7"} {
		if got, err := processorTime(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestTheCostsOfABurstAreToldForARequest(t *testing.T) {
	if got := tellCosts([][2]cost{{}}, 10); got != "" {
		t.Errorf("where nothing is known: %q", got)
	}
	bursts := [][2]cost{{{cpu: 4 * time.Second}, {cpu: time.Second, most: 40}}, {{cpu: 2 * time.Second}, {cpu: 3 * time.Second}}, {{cpu: 9 * time.Second}, {cpu: 2 * time.Second}}}
	if got, want := tellCosts(bursts, 1000), " (the handler took, for each request, 4 ms of the processor to open and 2 ms to close; it held 40 MiB at most)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	bursts[0][0].used = profile.Used{Bytes: 3 << 20, Objects: 2000}
	if got, want := tellCosts(bursts[:1], 1000), " (the handler took, for each request, 4 ms of the processor to open and 1 ms to close, with 3.07 KiB in 2 allocations and 0 KiB in 0; it held 40 MiB at most)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
