package main

import (
	"strings"
	"testing"
	"time"
)

// What the retention explains is told, and what it does not is still wrong.
func TestAVerificationTellsWhatWasRetired(t *testing.T) {
	for flags, want := range map[string]struct{ words, not string }{
		"--retention P30D":         {"1 chain was retired by the retention of 30 days", id2 + "  anchor_mismatch"},
		"--retention P30D -o json": {`"retired": 1`, `"subject": "` + id2 + `"`},
		"--retention P0D -o json":  {`"subject": "` + id2 + `"`, `"retired": 1`},
		"-o json":                  {`"subject": "` + id2 + `"`, `"retired": 1`},
	} {
		f := full(t)
		delete(f.has, "GET /api/audit/chains?subject="+id2)
		f.on("GET /api/audit/events", ok(`{"items":[]}`))
		d := f.desk(nil).anchored(t)
		d.clock = d.clock.Add(31 * 24 * time.Hour)
		// The journal is gone for all, and the last anchors are missing: exit code 1.
		code := d.run(t, append([]string{"audit", "verify", "--anchors", "https://acc.example/anchors"}, strings.Fields(flags)...)...)
		if out := d.out.String(); code != exitFailed || !strings.Contains(out, want.words) || strings.Contains(out, want.not) {
			t.Errorf("%s: %d %s%s", flags, code, out, d.errs.String())
		}
	}
	for _, bad := range []string{"P29D", "x", "-P40D", ""} {
		d := full(t).desk(nil).anchored(t)
		if code := d.run(t, "audit", "verify", "--retention", bad); code != exitUsage || !strings.Contains(d.errs.String(), "--retention") {
			t.Errorf("%q: %d %s", bad, code, d.errs.String())
		}
	}
}
