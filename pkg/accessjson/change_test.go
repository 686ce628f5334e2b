package accessjson_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

func TestAnExtensionNamesADurationOrAnEnd(t *testing.T) {
	m, err := accessjson.DecodeExtend([]byte(`{"duration":"PT1H","justification":"j"}`))
	if err != nil || m.Duration != time.Hour || m.Justification != "j" || !m.EndTime.IsZero() {
		t.Errorf("%+v, %v", m, err)
	}
	end := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	if m, err = accessjson.DecodeExtend([]byte(`{"endTimeUtc":"2026-11-24T10:00:00+01:00"}`)); err != nil || !m.EndTime.Equal(end) || m.Duration != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	for doc, want := range map[string]string{
		`{}`: "duration_missing", `{"duration":"PT1H","endTimeUtc":"2026-11-24T10:00:00Z"}`: "duration_and_end_time", `{"duration":"P1M"}`: "duration_invalid",
		`{"endTimeUtc":"soon"}`: "end_time_invalid", `{"duration":"PT1H","by":"PT1H"}`: "field_unknown", ``: "not_json",
		`{"duration":"PT1H","justification":"` + strings.Repeat("j", 1025) + `"}`: "text_too_long", `{"duration":"` + strings.Repeat("P", 9000) + `"}`: "body_too_large",
	} {
		if _, err := accessjson.DecodeExtend([]byte(doc)); access.ReasonOf(err) != want || access.CodeOf(err) != access.InvalidArgument {
			t.Errorf("%.60s: %v, want %s", doc, err, want)
		}
	}
}

func TestARevocationNamesGrantsOrNone(t *testing.T) {
	for doc, want := range map[string][]int{``: nil, `{}`: nil, `{"reason":"done"}`: nil, `{"grants":[0,2]}`: {0, 2}} {
		if m, err := accessjson.DecodeRevoke([]byte(doc)); err != nil || !slices.Equal(m.Grants, want) {
			t.Errorf("%s: %+v, %v", doc, m, err)
		}
	}
	for doc, want := range map[string]string{`{"grants":[]}`: "grants_count", `{"grants":[` + strings.Repeat("1,", 50) + `1]}`: "grants_count", `{"grants":["0"]}`: "type_invalid", `{"reason":"a\u0000"}`: "text_invalid", `{"Reason":"x"}`: "field_unknown"} {
		if _, err := accessjson.DecodeRevoke([]byte(doc)); access.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}

func TestALockdownSaysWhy(t *testing.T) {
	if reason, err := accessjson.DecodeLockdown([]byte(`{"reason":"incident 7"}`)); err != nil || reason != "incident 7" {
		t.Errorf("%q, %v", reason, err)
	}
	for doc, want := range map[string]string{`{}`: "reason_missing", `{"reason":""}`: "reason_missing", `{"reason":1}`: "type_invalid", `{"reason":"a\nb"}`: "text_invalid", ``: "not_json"} {
		if _, err := accessjson.DecodeLockdown([]byte(doc)); access.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}

func TestAViewTellsOfStartsAndExtensions(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	rec := access.Record{
		ID: "ar-b", DecidedAt: at, Outcome: access.Accepted, Request: access.Request{StartTime: at.Add(time.Hour), Extends: "ar-a", RequestedBy: access.Sender{Channel: access.ChannelHTTP, Name: "help"}},
		Grants: []access.Grant{{Index: 0, VM: "/vm", Port: 22, Source: netip.MustParsePrefix("203.0.113.7/32"), EndTime: at.Add(2 * time.Hour), Ticket: &access.Vouched{Ticket: access.TicketID{Source: "itsm", Key: "CHG1"}, Event: "e"}}},
	}
	f := access.File{Record: rec, ExtendedBy: []access.RequestID{"ar-c", "ar-d"}}
	show := func(now time.Time) accessjson.RequestView { return accessjson.View(f.At(now, nil)) }
	v := show(at)
	if v.Extends != "ar-a" || v.ExtendedBy != "ar-d" || !v.StartTimeUTC.Equal(at.Add(time.Hour)) || v.VirtualMachines[0].Ports[0].Status != access.Scheduled {
		t.Errorf("%+v", v)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"startTimeUtc":"2026-11-24T10:00:00Z"`, `"decidedAtUtc":"2026-11-24T09:00:00Z"`, `"extends":"ar-a"`, `"extendedBy":"ar-d"`, `"status":"Scheduled"`, `"index":0`, `"ticket":{"source":"itsm","key":"CHG1","event":"e"}`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s lacks %s", data, want)
		}
	}
	// Its time has come, and nobody has looked yet.
	if v := show(at.Add(time.Hour)); v.VirtualMachines[0].Ports[0].Status != access.Initiating {
		t.Errorf("%+v", v)
	}
	f.Start = &access.Start{At: at.Add(time.Hour), Reason: access.PolicyChanged, Message: "why"}
	if p := show(at.Add(time.Hour)).VirtualMachines[0].Ports[0]; p.Status != access.Failed || p.StatusReason != access.PolicyChanged || p.BlockedBy != "why" {
		t.Errorf("%+v", p)
	}
	f.Start, f.Revoked = nil, []access.Revocation{{Grant: 0, Reason: access.UserRequested, At: at}}
	if p := show(at).VirtualMachines[0].Ports[0]; p.Status != access.Revoked || p.StatusReason != access.UserRequested || !p.EndedAtUTC.Equal(at) {
		t.Errorf("%+v", p)
	}
}
