package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
	"github.com/portcullis-access/portcullis/pkg/audit"
)

// TestTheLifeOfARequestIsReadAsCloudEvents asks by a CloudEvent, in both modes,
// and reads what became of it off the subscription that comes along.
func TestTheLifeOfARequestIsReadAsCloudEvents(t *testing.T) {
	body := on(machines + "web-2")
	structured := `{"specversion":"1.0","type":"` + accessevent.RequestType + `","source":"/e2e","id":"life","data":` + body + `}`
	r, _, err := accessevent.DecodeRequest(accessevent.ContentType, nil, []byte(structured))
	if err != nil {
		t.Fatal(err)
	}
	id := string(access.NewRequestID(handlers.QueueSender(), r.ClientID))
	plain, enveloped := "application/json", accessevent.ContentType
	for _, m := range []*azservicebus.Message{
		{Body: []byte(structured), ContentType: &enveloped},
		{Body: []byte(body), ContentType: &plain, ApplicationProperties: map[string]any{
			"cloudEvents:specversion": "1.0", "cloudEvents:type": accessevent.RequestType, "cloudEvents:source": "/e2e", "cloudEvents:id": "life", "cloudEvents:time": time.Now(),
		}},
	} {
		if err := w.posts.SendMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	events := w.follow(t, id, "opened", 1)
	admin, err := w.token(t.Context(), "admin@contoso.com", "--role", "Portcullis.Administer")
	if err != nil {
		t.Fatal(err)
	}
	if back := newAPI(t).call(admin, http.MethodPost, "/api/access-requests/"+id+"/revoke", `{"reason":"done"}`); back.status != http.StatusAccepted {
		t.Fatalf("%d %s", back.status, back.body)
	}
	events = append(events, w.follow(t, id, "closed", 1)...)

	var kinds []string
	for i, ce := range events {
		if ce.ID() != fmt.Sprintf("%s/%d", id, i+1) || ce.Subject() != id || ce.Source() != "/portcullis/default" || ce.Extensions()["sequence"] != fmt.Sprintf("%08d", i+1) {
			t.Errorf("event %d: %s", i+1, ce)
		}
		kinds = append(kinds, kindOf(ce))
	}
	if got := strings.Join(kinds, " "); got != "requested opened revoked closing closed" {
		t.Error(got)
	}
	w.settled(t)
	eventually(t, func() string { // the last is sent a moment before it is marked
		n, err := w.store.Notice(t.Context(), id)
		if err != nil || !n.Seen {
			return fmt.Sprintf("%+v, %v", n, err)
		}
		return ""
	})
	recorded, seals, err := w.store.Chain(t.Context(), id)
	if found := audit.Verify(id, recorded, seals, time.Now()); err != nil || len(found) > 0 || len(seals) != len(events) {
		t.Errorf("%d seals, %+v, %v", len(seals), found, err)
	}
}

// TestACloudEventOfAnotherTypeIsRefused posts what is none of a request's.
func TestACloudEventOfAnotherTypeIsRefused(t *testing.T) {
	contentType, id := accessevent.ContentType, "other-type"
	if err := w.posts.SendMessage(t.Context(), &azservicebus.Message{
		MessageID: &id, ContentType: &contentType, Body: []byte(`{"specversion":"1.0","type":"com.example.deployed","source":"/e2e","id":"1","data":` + good + `}`),
	}, nil); err != nil {
		t.Fatal(err)
	}
	rejected := w.rejections(t, id, 1)[0]
	if rejected.Reason != "cloudevent_type_unknown" || rejected.Code != access.InvalidArgument {
		t.Errorf("%+v", rejected)
	}
	if ce := w.follow(t, string(rejected.RequestID), "refused", 1)[0]; !strings.Contains(string(ce.Data()), `"reason":"cloudevent_type_unknown"`) {
		t.Errorf("%s", ce)
	}
}

func kindOf(ce event.Event) string {
	return strings.TrimSuffix(strings.TrimPrefix(ce.Type(), "io.portcullis.access."), ".v1")
}

// follow takes a subject's events off the subscription until there were n of the
// kind. Repeats are dropped by their ids.
func (w *world) follow(t *testing.T, subject, kind string, n int) (out []event.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	s, err := w.bus.AcceptSessionForSubscription(ctx, "access-events", "all", accessevent.Session(subject), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	seen := map[string]bool{}
	for n > 0 {
		got, err := s.ReceiveMessages(ctx, 1, nil)
		if err != nil {
			t.Fatalf("%d more of %s: %v, after %v", n, kind, err, out)
		}
		for _, m := range got {
			var ce event.Event
			if err := json.Unmarshal(m.Body, &ce); err != nil || ce.Validate() != nil || *m.ContentType != accessevent.ContentType || m.MessageID != ce.ID() ||
				m.ApplicationProperties["kind"] != kindOf(ce) {
				t.Fatalf("%v: %s", err, m.Body)
			}
			if !seen[ce.ID()] {
				seen[ce.ID()] = true
				out = append(out, ce)
				if kindOf(ce) == kind {
					n--
				}
			}
			if err := s.CompleteMessage(ctx, m, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}
