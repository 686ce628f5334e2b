package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

func sourceDesk(t *testing.T, w *world) *broker.SourceDesk {
	t.Helper()
	d, err := broker.NewSourceDesk(broker.SourcePorts{
		Sources: w.store, Events: w.store, Clock: func() time.Time { return w.now }, Token: func() string { return "t" },
		Secret: func(name string) broker.SecretState {
			if name == "PORTCULLIS_SECRET_A" {
				return broker.SecretSet
			}
			return broker.SecretMissing
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func snow(t *testing.T, mapped string) ticket.Source {
	t.Helper()
	s, err := ticket.DecodeSource([]byte(`{"name":"snow","kind":"standard","secrets":["PORTCULLIS_SECRET_A","PORTCULLIS_SECRET_B"],
		"users":{"anna":"anna@contoso.com"},"mapping":{"ticket":"` + mapped + `"},"sample":{"n":"CHG1","text":"only in the sample"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhoMayKeepSources(t *testing.T) {
	w := newWorld(t)
	d := sourceDesk(t, w)
	if _, err := d.Put(t.Context(), admin, snow(t, "payload.n"), ""); err != nil {
		t.Fatal(err)
	}
	for by, may := range map[string]struct {
		access.Caller
		read bool
	}{"none": {none, false}, "asks": {anna, false}, "reads": {audit, true}, "administers": {admin, true}} {
		_, err := d.List(t.Context(), may.Caller)
		_, err2 := d.Get(t.Context(), may.Caller, "snow")
		if (err == nil) != may.read || (err2 == nil) != may.read {
			t.Errorf("%s: %v, %v", by, err, err2)
		}
		if by == "administers" {
			continue
		}
		_, err = d.Put(t.Context(), may.Caller, snow(t, "payload.n"), "")
		wantReason(t, err, access.PermissionDenied, "role_required")
		wantReason(t, d.Delete(t.Context(), may.Caller, "snow", ""), access.PermissionDenied, "role_required")
	}
}

func TestASourceIsChangedByItsVersionAndTold(t *testing.T) {
	w := newWorld(t)
	d := sourceDesk(t, w)
	first, err := d.Put(t.Context(), admin, snow(t, "payload.n"), "")
	if err != nil {
		t.Fatal(err)
	}
	if s := first.Secrets; len(s) != 2 || s[0].State != broker.SecretSet || s[1].State != broker.SecretMissing {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(time.Minute)
	for _, version := range []string{"", "x"} {
		_, err := d.Put(t.Context(), admin, snow(t, "payload.n"), version)
		wantReason(t, err, access.ConditionFailed, "source_changed")
		wantReason(t, d.Delete(t.Context(), admin, "snow", version), access.ConditionFailed, "source_changed")
	}
	_, err = d.Put(t.Context(), admin, snow(t, "payload.none"), first.Source.Version)
	wantReason(t, err, access.InvalidArgument, "source_invalid")
	second, err := d.Put(t.Context(), admin, snow(t, "payload.n + ''"), first.Source.Version)
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	if err := d.Delete(t.Context(), admin, "snow", second.Source.Version); err != nil {
		t.Fatal(err)
	}
	wantReason(t, d.Delete(t.Context(), admin, "snow", second.Source.Version), access.NotFound, "source_unknown")
	_, err = d.Get(t.Context(), admin, "snow")
	wantReason(t, err, access.NotFound, "source_unknown")
	_, err = d.Get(t.Context(), admin, "../snow")
	wantReason(t, err, access.NotFound, "source_unknown")

	events, err := w.store.EventsOf(t.Context(), "source/snow")
	if err != nil || len(events) != 3 {
		t.Fatalf("%+v, %v", events, err)
	}
	for i, want := range []struct {
		kind          access.EventKind
		before, after string
	}{{access.EventSourceChanged, "", "payload.n"}, {access.EventSourceChanged, "payload.n", "payload.n + ''"}, {access.EventSourceRemoved, "payload.n + ''", ""}} {
		e := events[i]
		if e.Kind != want.kind || e.Actor != admin.Name || !strings.Contains(e.Detail["before"], want.before) || !strings.Contains(e.Detail["after"], want.after) ||
			(e.Detail["before"] == "") != (want.before == "") || (e.Detail["after"] == "") != (want.after == "") || strings.Contains(e.Detail["before"]+e.Detail["after"], "only in the sample") {
			t.Errorf("%d: %+v", i, e)
		}
	}
}

func TestAnEventOfASourceStaysSmall(t *testing.T) {
	w := newWorld(t)
	s := snow(t, "payload.n")
	s.Users = map[string]string{}
	for i := range 2000 {
		s.Users[strings.Repeat("x", 30)+string(rune('a'+i%26))+strings.Repeat("y", i/26)] = "anna@contoso.com"
	}
	if _, err := sourceDesk(t, w).Put(t.Context(), admin, s, ""); err != nil {
		t.Fatal(err)
	}
	events, err := w.store.EventsOf(t.Context(), "source/snow")
	if err != nil || len(events) != 1 || len(events[0].Detail["after"]) > 64<<10 || !strings.Contains(events[0].Detail["after"], "payload.n") {
		t.Errorf("%d events, %v", len(events), err)
	}
}
