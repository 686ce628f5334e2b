package broker_test

import (
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// No policy demanded a ticket when the request was accepted, and one does when it
// starts: what vouches for it then ends it.
func TestATicketThatVouchedAtTheStartAloneEndsWhatItAllowed(t *testing.T) {
	w := newWorld(t)
	asked := wants("1", alice, time.Hour)
	asked.Ticket, asked.StartTime = change.String(), w.now.Add(time.Hour)
	rec := w.request(anna, asked)
	w.store.Policies[0].Ticket = &policy.TicketDemand{Sources: []string{"snow"}, States: []string{"Implement"}, MaxEventAge: 24 * time.Hour}
	w.receive(w.said("e1", "Implement"), broker.TicketAccepted)
	w.work()
	w.now = w.now.Add(time.Hour)
	w.deliverStarts()
	w.expectStatus(rec, access.Initiated, "")
	w.now = w.now.Add(time.Minute)
	w.receive(w.closing("e2"), broker.TicketAccepted)
	w.work()
	w.expectStatus(rec, access.Revoked, access.TicketEnded)
	w.expectShut()
}
