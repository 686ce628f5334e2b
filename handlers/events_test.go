package handlers_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

const cejson = "application/cloudevents+json; charset=utf-8"

// asEvent is the message as the host hands it over, with a content type.
func asEvent(t *testing.T, contentType, body string, properties map[string]any) customhandler.Invocation {
	t.Helper()
	quoted, err := json.Marshal(contentType)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{
		"Data":     map[string]any{"msg": base64.StdEncoding.EncodeToString([]byte(body))},
		"Metadata": map[string]any{"MessageId": `"m-1"`, "ContentType": string(quoted), "ApplicationProperties": properties, "UserProperties": properties},
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err := customhandler.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func structured(data string) string {
	return `{"specversion":"1.0","type":"` + accessevent.RequestType + `","source":"/ci","id":"42","data":` + data + `}`
}

func binary() map[string]any {
	return map[string]any{"cloudEvents:specversion": "1.0", "cloudEvents:type": accessevent.RequestType, "cloudEvents:source": "/ci", "cloudEvents:id": "42", "cloudEvents:n": 7, "tenant": "a"}
}

func TestACloudEventIsARequest(t *testing.T) {
	f := &fake{}
	for _, in := range []customhandler.Invocation{
		asEvent(t, cejson, structured(good), nil),
		asEvent(t, "application/json", good, binary()),
		asEvent(t, cejson, strings.Replace(structured(" "+good), `"id":"42"`, `"id":"42","time":"2026-11-24T09:00:00Z"`, 1), nil),
		asEvent(t, cejson, structured(strings.Replace(good, "{", `{"id":"own",`, 1)), nil),
	} {
		if err := request(t, f).Handle(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.got) != 4 || len(f.malformed)+len(f.rejected) > 0 {
		t.Fatalf("%d requests, refused %v", len(f.got), f.malformed)
	}
	for i, r := range f.got[:3] {
		// The envelope is the sender's affair: the same event with the same data is
		// the same request.
		if !strings.HasPrefix(r.ClientID, "ce-") || r.ClientID != f.got[0].ClientID || r.BodyHash != accessjson.Hash([]byte(good)) || r.Requestor.Name != "alice@contoso.com" {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if f.got[3].ClientID != "own" {
		t.Errorf("its own id: %s", f.got[3].ClientID)
	}
}

func TestACloudEventThatIsNoRequestIsRefusedForGood(t *testing.T) {
	for reason, in := range map[string]customhandler.Invocation{
		"cloudevent_type_unknown":   asEvent(t, cejson, strings.Replace(structured(good), "request.v1", "opened.v1", 1), nil),
		"cloudevent_invalid":        asEvent(t, cejson, structured(good), binary()),
		"cloudevent_format_unknown": asEvent(t, "application/cloudevents-batch+json", "["+structured(good)+"]", nil),
		"field_unknown":             asEvent(t, cejson, structured(`{"x":1}`), nil),
		"requestor_missing":         asEvent(t, "application/json", strings.Replace(good, `"requestor":"alice@contoso.com",`, "", 1), binary()),
	} {
		f := &fake{}
		if err := request(t, f).Handle(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if len(f.got) > 0 || len(f.malformed) != 1 || access.ReasonOf(f.malformed[0]) != reason || len(f.rejected) != 1 || f.rejected[0].MessageID != "m-1" {
			t.Errorf("%s: %v, %+v", reason, f.malformed, f.rejected)
		}
	}
}

// TestACloudEventThatIsTriedAgainIsStillOne delivers what was put off.
func TestACloudEventThatIsTriedAgainIsStillOne(t *testing.T) {
	for name, in := range map[string]customhandler.Invocation{
		"structured": asEvent(t, cejson, structured(good), nil),
		"binary":     asEvent(t, "application/json", good, binary()),
	} {
		f := &fake{err: access.Errorf(access.Unavailable, "down", "down")}
		if err := request(t, f).Handle(t.Context(), in); err != nil || len(f.again) != 1 {
			t.Fatalf("%v, %d", err, len(f.again))
		}
		m := f.again[0]
		properties := map[string]any{broker.AttemptsProperty: m.Attempts}
		for k, v := range m.Properties {
			properties[k] = v
		}
		f.err = nil
		if err := request(t, f).Handle(t.Context(), asEvent(t, m.ContentType, string(m.Body), properties)); err != nil {
			t.Fatal(err)
		}
		if len(f.got) != 2 || f.got[0].ClientID != f.got[1].ClientID || !strings.HasPrefix(f.got[0].ClientID, "ce-") || len(f.malformed) > 0 {
			t.Errorf("%s: %+v, %v", name, f.got, f.malformed)
		}
		if want := accessevent.Properties(in.Properties()); !maps.Equal(m.Properties, want) || m.Properties["tenant"] != "" {
			t.Errorf("%s: %v", name, m.Properties)
		}
	}
}

func TestAPromptForEventsIsReadStrictlyAndAlwaysCompleted(t *testing.T) {
	var got []string
	fails := false
	publish := handlers.PublishEvents(func(ctx context.Context, subject string) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("it may hang for ever")
		}
		if got = append(got, subject); fails {
			return errors.New("the topic is down")
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	for _, body := range []string{"", "x", "null", "{}", `{"subject":""}`, `{"subject":1}`, `{"subject":"s","x":1}`, `{"subject":"s"}{}`, `{"Subject":"s"}`, `{"subject":"` + strings.Repeat("x", 5000) + `"}`} {
		if err := publish(t.Context(), message(t, body, "m", "")); err != nil || len(got) > 0 {
			t.Errorf("%.40q: %v, published %v", body, err, got)
		}
	}
	for _, fails = range []bool{false, true} {
		if err := publish(t.Context(), message(t, `{"subject":"/subscriptions/x"}`, "m", "")); err != nil {
			t.Error(err)
		}
	}
	if len(got) != 2 || got[0] != "/subscriptions/x" {
		t.Error(got)
	}
}
