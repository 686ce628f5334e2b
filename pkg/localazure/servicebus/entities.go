package servicebus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Entities are the queues and topics of a namespace, as a file describes them
// for the local stack and the deployment alike.
type Entities struct {
	Queues []Queue `json:"queues"`
	Topics []Topic `json:"topics"`
}

// Queue describes a queue. Fields left out have the service's defaults.
type Queue struct {
	Name string `json:"name"`
	Settings
	RequiresDuplicateDetection          bool     `json:"requiresDuplicateDetection"`
	DuplicateDetectionHistoryTimeWindow Duration `json:"duplicateDetectionHistoryTimeWindow,omitzero"` // PT10M by default
}

// Settings are what queues and subscriptions have in common.
type Settings struct {
	LockDuration                     Duration `json:"lockDuration,omitzero"`             // at most PT5M; PT1M by default
	MaxDeliveryCount                 int      `json:"maxDeliveryCount,omitzero"`         // 10 by default
	DefaultMessageTimeToLive         Duration `json:"defaultMessageTimeToLive,omitzero"` // none by default
	DeadLetteringOnMessageExpiration bool     `json:"deadLetteringOnMessageExpiration"`
	RequiresSession                  bool     `json:"requiresSession"`
}

// Topic describes a topic with its subscriptions, each of which gets every message.
type Topic struct {
	Name                                string         `json:"name"`
	DefaultMessageTimeToLive            Duration       `json:"defaultMessageTimeToLive,omitzero"`
	RequiresDuplicateDetection          bool           `json:"requiresDuplicateDetection"`
	DuplicateDetectionHistoryTimeWindow Duration       `json:"duplicateDetectionHistoryTimeWindow,omitzero"`
	Subscriptions                       []Subscription `json:"subscriptions"`
}

// Subscription describes a subscription of a topic.
type Subscription struct {
	Name string `json:"name"`
	Settings
}

// Duration is a time.Duration written in ISO 8601, as in PT1M or P14D.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := parseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// ParseEntities reads a JSON description. It refuses unknown, misspelt and
// repeated fields, and what New would refuse.
func ParseEntities(data []byte) (Entities, error) {
	var e Entities
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if err := json.UnmarshalDecode(dec, &e, json.RejectUnknownMembers(true)); err != nil {
		return Entities{}, fmt.Errorf("entities: %w", err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return Entities{}, errors.New("entities: something follows the description")
	}
	trial := Server{entities: map[string]*entity{}}
	if err := trial.create(e); err != nil {
		return Entities{}, err
	}
	return e, nil
}

// Names as the service takes them: letters, digits and . - _ with / between.
func validName(name string) error {
	pattern := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$`)
	if !pattern.MatchString(name) || strings.Contains(strings.ToLower(name), "/subscriptions/") {
		return fmt.Errorf("%q is not a name for a queue or topic", name)
	}
	return nil
}
