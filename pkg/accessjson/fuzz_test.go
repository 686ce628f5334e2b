package accessjson_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

// A policy that is taken is one that its schema takes, comes back the same from
// its one JSON form, and says of no source more than its text.
func FuzzDecodePolicy(f *testing.F) {
	f.Add([]byte(goodPolicy))
	for _, c := range [][2]string{{`"TCP"`, `"*"`}, {"PT3H", "P1D"}, {`"*"`, `"10.0.0.1"`}, {`"number":22`, `"number":2.2e1`}, {`"ports"`, `"Ports"`}, {"/resourceGroups/prod", ""}} {
		f.Add([]byte(strings.Replace(goodPolicy, c[0], c[1], 1)))
	}
	s := schema(f, accessjson.PolicySchema())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := accessjson.DecodePolicy(data)
		if err != nil {
			if access.CodeOf(err) != access.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if !valid(t, s, string(data)) {
			t.Errorf("the schema refuses what the decoder takes: %s", data)
		}
		for _, port := range p.Ports {
			for _, source := range port.Sources {
				if source != source.Masked() || source.Bits() == 0 && !strings.Contains(string(data), "*") && !strings.Contains(string(data), "/0") {
					t.Errorf("%s is not what was written: %s", source, data)
				}
			}
		}
		text, err := accessjson.EncodePolicy(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := accessjson.DecodePolicy(text)
		if err != nil {
			t.Fatalf("%s became %s: %v", data, text, err)
		}
		if len(p.Requestors) == 0 {
			p.Requestors, again.Requestors = nil, nil
		}
		if !reflect.DeepEqual(p, again) {
			t.Errorf("%+v\n%+v", p, again)
		}
	})
}

// What changes a request is refused for a reason that tells the caller what to
// do, or means one thing.
func FuzzDecodeChange(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"duration":"PT1H","justification":"j"}`, `{"endTimeUtc":"2026-11-24T10:00:00+01:00"}`, `{"grants":[0,2],"reason":"done"}`, `{"reason":"incident"}`,
		`{"grants":[-1]}`, `{"grants":[0,0]}`, `{"grants":[1e9]}`, `{"reason":"a\nb"}`, `{"reason":"a","reason":"b"}`, `{"duration":"PT1H"}{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		refused := func(err error) bool {
			if err != nil && (access.CodeOf(err) != access.InvalidArgument || access.ReasonOf(err) == "" || strings.ContainsAny(err.Error(), "\r\n")) {
				t.Errorf("%q: %q", data, err)
			}
			return err != nil
		}
		if m, err := accessjson.DecodeExtend(data); !refused(err) && (m.Duration > 0) == !m.EndTime.IsZero() {
			t.Errorf("%q: %+v", data, m)
		}
		if m, err := accessjson.DecodeRevoke(data); !refused(err) {
			doc := map[string]any{"reason": m.Reason}
			if m.Grants != nil {
				doc["grants"] = m.Grants
			}
			text, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			// Which grants there are is the use case's to know.
			if again, err := accessjson.DecodeRevoke(text); err != nil || !slices.Equal(again.Grants, m.Grants) || again.Reason != m.Reason {
				t.Errorf("%q: %+v, then %+v, %v", data, m, again, err)
			}
		}
		if reason, err := accessjson.DecodeLockdown(data); !refused(err) && strings.TrimSpace(reason) == "" {
			t.Errorf("%q: a lockdown for no reason", data)
		}
	})
}

// A request's sources are those of its text: an address or a range that stands
// in it.
func FuzzRequestSources(f *testing.F) {
	for _, s := range []string{"203.0.113.7", "203.0.113.0/24", "2001:db8::/32", "::ffff:1.2.3.4", "*", "Any", "0.0.0.0/0", "203.0.113.7/24", "Internet", "fe80::1%eth0", "10.0.0.010"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\"\\") || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0xfffd }) {
			return
		}
		m, err := accessjson.DecodeRequest([]byte(strings.Replace(good, "203.0.113.7", text, 1)))
		if err != nil {
			return
		}
		address, bits, isRange := strings.Cut(text, "/")
		want, err := netip.ParseAddr(address)
		got := m.Ports[0].Source
		if err != nil || got.Addr() != want || isRange && strings.TrimLeft(bits, "0123456789") != "" || !isRange && !got.IsSingleIP() {
			t.Errorf("%q became %s", text, got)
		}
	})
}
