package ticket_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

const good = `{
  "name": "change-desk",
  "kind": "standard",
  "secrets": ["PORTCULLIS_SECRET_DESK"],
  "users": {"alice": "alice@contoso.com"},
  "maxAge": "PT1H",
  "mapping": {
    "when": "payload.type.startsWith('change.')",
    "ticket": "payload.data.number",
    "at": "payload.timestamp",
    "state": "payload.data.state",
    "assignee": "users[?payload.data.?assignee.orValue('')].orValue('')",
    "ends": "payload.data.state in ['closed', 'cancelled']"
  },
  "sample": {"type": "change.approved", "timestamp": "2026-11-24T10:00:00Z", "data": {"number": "CHG1", "state": "approved", "assignee": "alice", "note": null}}
}`

func TestASourceIsReadAndWritten(t *testing.T) {
	s, err := ticket.DecodeSource([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := ticket.EncodeSource(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ticket.DecodeSource(text)
	if err != nil || cmp.Diff(s, again) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(s, again))
	}
}
