package customhandler_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// FuzzComesBack wraps what a sender controls as the host does: whatever is in
// it, it comes out as it was, and sets nothing that the broker alone sets.
func FuzzComesBack(f *testing.F) {
	f.Add([]byte("{}"), "id", "portcullis-attempts", "3")
	f.Add([]byte(`"x"`), `"id"`, "EnqueuedTimeUtc", `"2030-01-01T00:00:00Z"`)
	f.Add([]byte{0xff, 0}, `\u0000`, "ApplicationProperties", `{"a":1}`)
	f.Add([]byte("e30="), "", "", "")
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte, id, name, value string) {
		if !utf8.ValidString(id) || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return // the host's JSON is UTF-8
		}
		text := func(v any) string {
			data, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		envelope := text(map[string]any{
			"Data": map[string]any{"msg": base64.StdEncoding.EncodeToString(body)},
			"Metadata": map[string]any{
				"MessageId": text(id), "EnqueuedTimeUtc": text(at.Format("2006-01-02T15:04:05")), "DeliveryCount": "2",
				"ApplicationProperties": map[string]any{name: value},
			},
		})
		in, err := customhandler.Decode([]byte(envelope))
		if err != nil {
			t.Fatalf("%s: %v", envelope, err)
		}
		if string(in.Data) != string(body) || in.MessageID() != id || in.Property(name) != value {
			t.Errorf("%q, %q, %q=%q became %q, %q, %q", body, id, name, value, in.Data, in.MessageID(), in.Property(name))
		}
		if !in.EnqueuedTime().Equal(at) || in.DeliveryCount() != 2 {
			t.Errorf("enqueued %v, %d deliveries", in.EnqueuedTime(), in.DeliveryCount())
		}
		if other := strings.ToUpper(name); other != name && in.Property(other) != "" {
			t.Errorf("%q is read as %q", name, other)
		}
	})
}
