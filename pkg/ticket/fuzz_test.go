package ticket_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// FuzzVerify looks for what is believed though nobody who has the secret sent it.
// Headers are "name: value" lines.
func FuzzVerify(f *testing.F) {
	body := []byte(`{"key":"T-1"}`)
	for i, k := range kinds {
		var lines strings.Builder
		for name, values := range signed(f, k, secretOf(k), body, "d-1", received) {
			lines.WriteString(name + ": " + values[0] + "\n")
		}
		f.Add(uint8(i), lines.String(), body)
		f.Add(uint8(i), lines.String()+lines.String(), body)
		f.Add(uint8(i), strings.ReplaceAll(lines.String(), "=", "=,"), body)
	}
	f.Fuzz(func(t *testing.T, kind uint8, lines string, body []byte) {
		k := kinds[int(kind)%len(kinds)]
		h := http.Header{}
		for line := range strings.Lines(lines) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
				h[name] = append(h[name], value)
			}
		}
		v, err := source(k, 2).Verify(ticket.Delivery{Header: h, Body: body, ReceivedAt: received}, []string{secretOf(k), otherSecretOf(k)})
		if err != nil {
			if access.CodeOf(err) != access.Unauthenticated && access.ReasonOf(err) != "body_too_large" {
				t.Fatal(err)
			}
			return
		}
		// Then the honest sender's headers for it are among those that came.
		id, name := "", signatureHeader[k]
		for key, values := range h {
			if http.CanonicalHeaderKey(key) == "Webhook-Id" {
				id = values[0]
			}
		}
		for _, secret := range []string{secretOf(k), otherSecretOf(k)} {
			honest := strings.ToLower(signed(t, k, secret, body, id, v.At).Get(name))
			for _, values := range h {
				if strings.Contains(strings.ToLower(strings.Join(values, " ")), honest) {
					return
				}
			}
		}
		t.Fatalf("%s believes %q", k, lines)
	})
}

// FuzzMap looks for a payload that breaks the mapping or makes an event that breaks
// its own promises.
func FuzzMap(f *testing.F) {
	var sources []ticket.Source
	for i, name := range []string{"github", "jira", "jsm", "pagerduty", "servicenow", "standard"} {
		s := example(f, name)
		sources = append(sources, s)
		f.Add(uint8(i), []byte(s.Sample))
		f.Add(uint8(i), bytes.Replace(s.Sample, []byte(`"`), []byte(`[[["`), 1))
	}
	for name, e := range exampleEvents(f) {
		for i, s := range sources {
			if s.Name == e.Ticket.Source {
				f.Add(uint8(i), read(f, "payloads/"+name+".json"))
			}
		}
	}
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		s := sources[int(which)%len(sources)]
		e, ours, err := s.Map(context.Background(), ticket.Verified{ID: "te-1", At: now, BodyHash: "h", Body: body}, now)
		if err != nil {
			if c := access.CodeOf(err); c != access.InvalidArgument && access.ReasonOf(err) != "delivery_stale" || ours {
				t.Fatal(err)
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("the error forges a line: %q", err)
			}
			return
		}
		if !ours {
			return
		}
		key := e.Ticket.Key
		if key == "" || len([]rune(key)) > 128 || e.At.IsZero() || e.At.Sub(now) > 5*time.Minute || !e.Ends && now.Sub(e.At) > s.MaxAge || e.Ends && e.Ask != nil {
			t.Fatalf("%+v", e)
		}
		if e.Ask != nil && (e.Ask.Requestor == "" || len(e.Ask.Ports) == 0 || len(e.Ask.Ports) > access.MaxPorts) {
			t.Fatalf("%+v", e.Ask)
		}
	})
}

// FuzzDecodeSource looks for a source that is read otherwise than it is written, or
// that the schema does not know.
func FuzzDecodeSource(f *testing.F) {
	f.Add([]byte(good))
	for _, c := range bad {
		if len(c.doc) < 4096 {
			f.Add([]byte(c.doc))
		}
	}
	sch := schema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ticket.DecodeSource(data)
		if err != nil {
			if access.CodeOf(err) != access.InvalidArgument || access.ReasonOf(err) != "source_invalid" || len(access.AsError(err).Violations) == 0 {
				t.Fatal(err)
			}
			return
		}
		if !fits(t, sch, data) {
			t.Errorf("the schema refuses what the decoder takes: %s", data)
		}
		text, err := ticket.EncodeSource(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ticket.DecodeSource(text)
		if len(s.Users) == 0 {
			s.Users = nil
		}
		if err != nil || !cmp.Equal(s, again) {
			t.Fatalf("%v: %s", err, cmp.Diff(s, again))
		}
		if err := s.Validate(); err != nil && access.ReasonOf(err) != "source_invalid" {
			t.Fatal(err)
		}
	})
}
