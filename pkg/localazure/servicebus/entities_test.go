package servicebus

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

func TestParseTheDeployedEntities(t *testing.T) {
	data, err := os.ReadFile("../../../infra/entities.json")
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEntities(data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Entities: e})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range e.Queues {
		made := s.entities[strings.ToLower(q.Name)]
		if made == nil || made.main.q.LockDuration != time.Duration(q.LockDuration) || made.main.q.RequiresSession != q.RequiresSession ||
			made.main.q.DefaultTTL != time.Duration(q.DefaultMessageTimeToLive) || made.main.q.DeadLetterOnExpiration != q.DeadLetteringOnMessageExpiration {
			t.Errorf("%s became %+v", q.Name, made)
		}
	}
}

func TestParseEntitiesIsStrict(t *testing.T) {
	for name, data := range map[string]string{
		"unknown field":    `{"queues":[{"name":"q","forwardTo":"x"}],"topics":[]}`,
		"other case":       `{"queues":[{"Name":"q"}],"topics":[]}`,
		"field twice":      `{"queues":[],"queues":[],"topics":[]}`,
		"something after":  `{"queues":[],"topics":[]} {}`,
		"no name":          `{"queues":[{}],"topics":[]}`,
		"bad name":         `{"queues":[{"name":"a b"}],"topics":[]}`,
		"same name":        `{"queues":[{"name":"q"},{"name":"Q"}],"topics":[]}`,
		"bad duration":     `{"queues":[{"name":"q","lockDuration":"1m"}],"topics":[]}`,
		"lock too long":    `{"queues":[{"name":"q","lockDuration":"PT5M1S"}],"topics":[]}`,
		"negative count":   `{"queues":[{"name":"q","maxDeliveryCount":-1}],"topics":[]}`,
		"bad subscription": `{"queues":[],"topics":[{"name":"t","subscriptions":[{"name":""}]}]}`,
		"not JSON":         `queues: []`,
	} {
		if e, err := ParseEntities([]byte(data)); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if _, err := ParseEntities([]byte(`{"queues":[{"name":"a/b-c.d_e"}],"topics":[{"name":"t","subscriptions":[{"name":"s"}]}]}`)); err != nil {
		t.Error(err)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT1M": time.Minute, "P14D": 14 * 24 * time.Hour, "P1DT2H3M4.5S": 26*time.Hour + 3*time.Minute + 4500*time.Millisecond,
		"PT30S": 30 * time.Second, "PT0.25S": 250 * time.Millisecond,
	} {
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", text, got, err, want)
		}
		if back := formatDuration(got); back != text {
			t.Errorf("%s is written as %s", text, back)
		}
	}
	if d, err := parseDuration(maxTimeSpan); err != nil || formatDuration(d) != maxTimeSpan {
		t.Errorf("the largest duration is %s, %v", d, err)
	}
	for _, text := range []string{"", "P", "PT", "P1DT", "1M", "P1M", "P1Y", "PT1H2", "-PT1M", "PT1M ", "pt1m"} {
		if d, err := parseDuration(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
}

// A message may come from anyone who has a token: it must not end the process.
func FuzzReceived(f *testing.F) {
	for _, m := range []amqp.Message{
		{Data: [][]byte{[]byte("x")}},
		{Header: &amqp.MessageHeader{TTL: time.Minute}, Annotations: amqp.Annotations{annScheduledTime: time.Unix(0, 0)}, Value: map[string]any{"k": "v"}},
		{Properties: &amqp.MessageProperties{MessageID: uint64(1)}, ApplicationProperties: map[string]any{"k": int64(1)}, Sequence: [][]any{{"x"}}},
	} {
		data, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		batch, err := (&amqp.Message{Data: [][]byte{data, data}}).MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint32(0))
		f.Add(batch, uint32(batchFormat))
	}
	// A map with a list for a key, and one that claims four thousand million entries.
	f.Add([]byte{0x00, 0x53, 0x72, 0xc1, 0x03, 0x02, 0x45, 0x40}, uint32(0))
	f.Add([]byte{0x00, 0x53, 0x72, 0xd1, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe}, uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, format uint32) {
		messages, err := received(data, format)
		if err != nil {
			return
		}
		for _, m := range messages {
			if m.ID == "" && m.Body.Properties.MessageID != "" {
				t.Error("a message has no id")
			}
			if _, err := encodeMessage(m, true, true); err != nil {
				t.Logf("not encoded: %v", err)
			}
		}
	})
}
