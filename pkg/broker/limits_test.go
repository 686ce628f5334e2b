package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// limit gives the world other limits.
func (w *world) limit(live, perHour int) {
	w.t.Helper()
	s, err := broker.NewSubmitter(w.submitter.SubmitPorts, broker.SubmitSettings{
		ShortestDuration: time.Minute, OpenWithin: 15 * time.Minute, SnapshotAge: 10 * time.Second, MaxLiveGrants: live, MaxRequestsPerHour: perHour,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ports := w.desk.DeskPorts
	ports.Submitter = s
	if w.desk, err = broker.NewDesk(ports); err != nil {
		w.t.Fatal(err)
	}
	w.submitter = s
}

func TestLiveGrantsAreLimitedByRequestor(t *testing.T) {
	w := newWorld(t)
	w.limit(3, 0)
	var recs []access.Record
	for i := range 3 {
		recs = append(recs, w.request(anna, wants(fmt.Sprint(i), fmt.Sprintf("203.0.113.%d", i+1), time.Hour)))
	}
	_, err := w.desk.Request(t.Context(), anna, wants("4", alice, time.Hour))
	wantReason(t, err, access.PermissionDenied, "limit_live_grants")
	_, err = w.desk.Request(t.Context(), anna, wants("4", alice, time.Hour)) // it stays refused
	wantReason(t, err, access.PermissionDenied, "limit_live_grants")
	w.request(ben, wants("4", alice, time.Hour)) // another's do not count
	ask := wants("5", alice, time.Hour)
	ask.Requestor = "ANNA@contoso.com"
	_, err = w.desk.Request(t.Context(), help, ask) // nor does another ask them past theirs
	wantReason(t, err, access.PermissionDenied, "limit_live_grants")
	queued := askFor("q", "anna@contoso.com")
	if _, err = w.submitter.Submit(t.Context(), queued); access.ReasonOf(err) != "limit_live_grants" {
		t.Errorf("on the queue: %v", err)
	}
	w.deliver()
	// What is given back makes room, and so does what has expired.
	if _, err := w.desk.Revoke(t.Context(), anna, recs[0].ID, broker.GiveBack{}); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	w.request(anna, wants("6", alice, 2*time.Hour))
	w.extend(anna, recs[1].ID, more("e", 2*time.Hour)) // one takes the other's place
	w.deliver()
	_, err = w.desk.Request(t.Context(), anna, wants("7", bob, time.Hour))
	wantReason(t, err, access.PermissionDenied, "limit_live_grants")
	w.now = w.now.Add(time.Hour)
	w.deliver()
	w.request(anna, wants("8", bob, time.Hour))
	// What is scheduled counts as well.
	_, err = w.desk.Request(t.Context(), anna, w.later("9", time.Hour, time.Hour))
	wantReason(t, err, access.PermissionDenied, "limit_live_grants")
}

func askFor(id, name string) access.Request {
	req := ask(id, alice, time.Hour)
	req.Requestor.Name = name
	return req
}

func TestRequestsAreLimitedByWhoAsks(t *testing.T) {
	w := newWorld(t)
	w.limit(0, 3)
	w.request(help, wants("1", alice, time.Hour))
	for i, name := range []string{"anna@contoso.com", "ben@contoso.com"} {
		ask := wants(fmt.Sprint("for", i), alice, time.Hour)
		ask.Requestor = name
		w.request(help, ask)
	}
	for i := range 2 { // again and again changes nothing
		_, err := w.desk.Request(t.Context(), help, wants(fmt.Sprint("more", i), alice, time.Hour))
		wantReason(t, err, access.PermissionDenied, "limit_requests_per_hour")
	}
	w.request(anna, wants("1", alice, time.Hour)) // who was asked for has asked nothing
	// A repeat is no request.
	w.request(help, wants("1", alice, time.Hour))
	w.now = w.now.Add(time.Hour)
	w.request(help, wants("5", alice, time.Hour))

	// Refused ones count: nobody probes without end.
	for i := range 3 {
		_, err := w.desk.Request(t.Context(), ben, wants(fmt.Sprint(i), "198.51.100.9", time.Hour))
		wantReason(t, err, access.PermissionDenied, "source_outside_policy")
	}
	_, err := w.desk.Request(t.Context(), ben, wants("4", alice, time.Hour))
	wantReason(t, err, access.PermissionDenied, "limit_requests_per_hour")

	for i := range 3 {
		w.submit(askFor(fmt.Sprint(i), "queued@contoso.com"))
	}
	if _, err := w.submitter.Submit(t.Context(), askFor("4", "Queued@contoso.com")); access.ReasonOf(err) != "limit_requests_per_hour" {
		t.Errorf("on the queue: %v", err)
	}
	w.submit(askFor("4b", "another@contoso.com"))
}

func TestManyAtOnceDoNotPassALimitTogether(t *testing.T) {
	w := newWorld(t)
	w.limit(5, 0)
	var g sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for i := range 30 {
		g.Go(func() {
			_, err := w.desk.Request(context.Background(), anna, wants(fmt.Sprint(i), alice, time.Hour))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				accepted++
			} else if access.ReasonOf(err) != "limit_live_grants" {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if accepted != 5 {
		t.Errorf("%d were accepted, want 5", accepted)
	}
}

func TestALimitThatCannotBeReadLetsNothingPass(t *testing.T) {
	w := newWorld(t)
	w.faults.FailAt = 5 // the claim
	if _, err := w.desk.Request(t.Context(), anna, wants("1", alice, time.Hour)); !access.CodeOf(err).Retryable() {
		t.Error(err)
	}
	w.faults.Reset()
	if _, _, err := w.store.Find(t.Context(), access.NewRequestID(anna.Sender(), "1")); access.CodeOf(err) != access.NotFound {
		t.Errorf("something was decided: %v", err)
	}
}
