package broker_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// caller makes a caller whose object id is made of their name.
func caller(name string, roles ...access.Role) access.Caller {
	return access.Caller{Name: name + "@contoso.com", ObjectID: "oid-" + name, TenantID: "t", Roles: roles}
}

var (
	anna  = caller("anna", access.RoleRequest)
	ben   = caller("ben", access.RoleRequest)
	help  = caller("help", access.RoleRequest, access.RoleRequestForOthers)
	audit = caller("audit", access.RoleReadAll)
	admin = caller("admin", access.RoleAdminister)
	none  = caller("none")
)

func wants(id, source string, d time.Duration) broker.Ask {
	return broker.Ask{
		ClientID: id, BodyHash: id + source + d.String(), Justification: "work",
		Ports: []access.PortRequest{{VM: vm, Port: 22, Source: mask(source), Duration: d, Path: "virtualMachines[0].ports[0]"}},
	}
}

func mask(address string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(address), 32) }

func (w *world) request(by access.Caller, ask broker.Ask) access.Record {
	w.t.Helper()
	now, err := w.desk.Request(context.Background(), by, ask)
	if err != nil {
		w.t.Fatal(err)
	}
	return now.Record
}

func wantReason(t *testing.T, err error, code access.Code, reason string) {
	t.Helper()
	if access.CodeOf(err) != code || access.ReasonOf(err) != reason {
		t.Errorf("got %v, want %s %s", err, code, reason)
	}
}

func TestWhoMayAskForWhom(t *testing.T) {
	for name, c := range map[string]struct {
		by      access.Caller
		forWhom string
		reason  string
		oid     string
	}{
		"for oneself":             {anna, "", "", "oid-anna"},
		"by one's own name":       {anna, "Anna@Contoso.com", "", "oid-anna"},
		"for another, unasked":    {anna, "ben@contoso.com", "role_required", ""},
		"for another":             {help, "ben@contoso.com", "", ""},
		"who may read all":        {audit, "", "role_required", ""},
		"an administrator":        {admin, "", "role_required", ""},
		"without a role":          {none, "", "role_required", ""},
		"for others, not oneself": {caller("desk", access.RoleRequestForOthers), "", "role_required", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ask := wants("1", alice, time.Hour)
			ask.Requestor = c.forWhom
			now, err := w.desk.Request(t.Context(), c.by, ask)
			if access.ReasonOf(err) != c.reason {
				t.Fatal(err)
			}
			if err != nil {
				if access.CodeOf(err) != access.PermissionDenied || len(w.bus.Take(w.now.Add(time.Hour))) != 0 {
					t.Error(err)
				}
				return
			}
			req := now.Record.Request
			if req.Requestor.ObjectID != c.oid || req.Requestor.Asserted || req.RequestedBy.Principal != c.by.Principal() || !slices.Equal(req.Roles, c.by.Roles) {
				t.Errorf("%+v", req)
			}
			if c.oid == "" && req.Requestor.Name != "ben@contoso.com" {
				t.Errorf("%+v", req.Requestor)
			}
			w.deliver()
			w.expectStatus(now.Record, access.Initiated, "")
		})
	}
}

func TestANameThatAnotherGivesIsNoObjectID(t *testing.T) {
	w := newWorld(t)
	w.store.Policies[0].Requestors = []string{"oid:oid-ben"}
	w.request(ben, wants("1", alice, time.Hour))
	ask := wants("1", alice, time.Hour)
	ask.Requestor = ben.Name
	_, err := w.desk.Request(t.Context(), help, ask)
	wantReason(t, err, access.PermissionDenied, "not_permitted")
	ask.ClientID, ask.Requestor = "2", "oid:oid-ben"
	_, err = w.desk.Request(t.Context(), help, ask)
	wantReason(t, err, access.PermissionDenied, "not_permitted")
	w.store.Policies[0].Requestors = []string{"BEN@contoso.com"}
	ask.ClientID, ask.Requestor = "3", ben.Name
	w.request(help, ask)
}

func TestWhoMaySeeWhat(t *testing.T) {
	w := newWorld(t)
	own := w.request(anna, wants("1", alice, time.Hour))
	ask := wants("2", alice, time.Hour)
	ask.Requestor = ben.Name
	forBen := w.request(help, ask)
	queued := ask2(w, anna.Name)
	w.deliver()
	for name, c := range map[string]struct {
		by              access.Caller
		own, ben, queue string
	}{
		"who asked":       {anna, "", "request_unknown", "request_unknown"}, // a queue's word opens nothing
		"who it is for":   {ben, "request_unknown", "", "request_unknown"},
		"who handed in":   {help, "request_unknown", "", "request_unknown"},
		"who reads all":   {audit, "", "", ""},
		"administrator":   {admin, "", "", ""},
		"without a role":  {none, "role_required", "role_required", "role_required"},
		"somebody else's": {caller("eve", access.RoleRequest), "request_unknown", "request_unknown", "request_unknown"},
	} {
		for id, want := range map[access.RequestID]string{own.ID: c.own, forBen.ID: c.ben, queued.ID: c.queue} {
			now, err := w.desk.View(t.Context(), c.by, id)
			if access.ReasonOf(err) != want || err == nil && now.Status(0).Status != access.Initiated {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
			events, err := w.desk.EventsOf(t.Context(), c.by, id)
			if access.ReasonOf(err) != want || (err == nil) != (len(events) > 0) {
				t.Errorf("%s: events %v, %v, want %q", name, events, err, want)
			}
		}
	}
	_, err := w.desk.View(t.Context(), admin, access.NewRequestID(own.Request.RequestedBy, "none"))
	wantReason(t, err, access.NotFound, "request_unknown")
}

func ask2(w *world, requestor string) access.Record {
	req := ask("q", bob, time.Hour)
	req.Requestor.Name = requestor
	return w.submit(req)
}

func TestTheSameAgainShowsWhatBecameOfIt(t *testing.T) {
	w := newWorld(t)
	first := w.request(anna, wants("1", alice, time.Hour))
	w.deliver()
	now, err := w.desk.Request(t.Context(), anna, wants("1", alice, time.Hour))
	if err != nil || now.Record.ID != first.ID || now.Status(0).Status != access.Initiated {
		t.Errorf("%+v, %v", now.Status(0), err)
	}
	_, err = w.desk.Request(t.Context(), anna, wants("1", bob, time.Hour))
	wantReason(t, err, access.FailedPrecondition, "id_conflict")
	if other := w.request(ben, wants("1", bob, time.Hour)); other.ID == first.ID {
		t.Error("two callers share an id")
	}
}

func TestATimeThatNobodyLivesToSeeBoundsNothing(t *testing.T) {
	w := newWorld(t)
	rec := w.request(anna, wants("1", alice, time.Hour))
	year := func(n int) time.Time { return time.Date(n, 12, 31, 23, 59, 59, 0, time.UTC) }
	for _, f := range []broker.Filter{{}, {From: year(1000)}, {To: year(9999)}, {From: year(1), To: year(2500)}, {From: year(2025), To: year(2026)}} {
		for _, by := range []access.Caller{anna, audit} {
			p, err := w.desk.List(t.Context(), by, f)
			if err != nil || len(p.Items) != 1 || p.Items[0].Record.ID != rec.ID {
				t.Errorf("from %v to %v: %d, %v", f.From, f.To, len(p.Items), err)
			}
		}
	}
	for _, f := range []broker.Filter{{From: year(9999)}, {To: year(1000)}} {
		_, err := w.desk.List(t.Context(), audit, f)
		wantReason(t, err, access.InvalidArgument, "time_range_invalid")
	}
}
