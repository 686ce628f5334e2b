// Package audit chains the events of a subject by hash, and finds what was
// changed in a chain afterwards.
//
// A seal says: the n-th event of this subject is this one, and what came before
// it is that. It proves that no sealed event was altered, taken out or put in
// between, to whoever holds a later seal that the writer of the tables could not
// reach: an anchor in immutable storage. Without an anchor, whoever can write the
// tables can make a whole chain anew, and cutting off its end shows nowhere.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Seal is one link of a subject's chain. It is written once.
type Seal struct {
	Subject string `json:"subject"`
	Seq     int    `json:"seq"`   // from 1
	Event   string `json:"event"` // the event's ID within its subject
	// Digest is the event's own hash, Prev the Hash of the seal before it ("" for
	// the first), Hash that of all of these.
	Digest string `json:"digest"`
	Prev   string `json:"prev,omitempty"`
	Hash   string `json:"hash"`
	// At is when it was sealed. It is part of Hash.
	At time.Time `json:"at"`
}

// Digest is the hash of an event: SHA-256, in hexadecimal, of its JSON, in which
// the fields stand as [access.Event] declares them and details by their names.
func Digest(e access.Event) (string, error) {
	e.At = e.At.UTC()
	return hash(e)
}

func hash(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("audit: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Next seals an event behind the last seal of its subject (the zero Seal for none).
func Next(last Seal, e access.Event, at time.Time) (Seal, error) {
	digest, err := Digest(e)
	if err != nil {
		return Seal{}, err
	}
	s := Seal{Subject: e.Subject, Seq: last.Seq + 1, Event: e.ID(), Digest: digest, Prev: last.Hash, At: at.UTC()}
	s.Hash, err = s.sum()
	return s, err
}

// sum is the hash of all but Hash.
func (s Seal) sum() (string, error) {
	s.Hash, s.At = "", s.At.UTC()
	return hash(s)
}

// Problem names what is wrong with a chain.
type Problem string

// The problems.
const (
	EventAltered  Problem = "event_altered"   // an event is not what was sealed
	EventMissing  Problem = "event_missing"   // a sealed event is gone
	EventUnsealed Problem = "event_unsealed"  // an event that should be sealed by now is not
	SealAltered   Problem = "seal_altered"    // a seal is not what was written
	SealMissing   Problem = "seal_missing"    // the chain has a gap
	AnchorAltered Problem = "anchor_mismatch" // the chain is not the one that was anchored
)

// Finding is one thing that is wrong with a subject's chain.
type Finding struct {
	Subject string  `json:"subject"`
	Seq     int     `json:"seq,omitempty"`
	Event   string  `json:"event,omitempty"`
	Problem Problem `json:"problem"`
	Message string  `json:"message"`
}

// Verify holds a subject's events against its seals (by Seq, as they were read).
// An event that happened after recent may not be sealed yet. Nothing found means:
// the chain is whole from its first event to its last seal.
func Verify(subject string, events []access.Event, seals []Seal, recent time.Time) (out []Finding) {
	found := func(seq int, event string, p Problem, format string, args ...any) {
		out = append(out, Finding{subject, seq, event, p, fmt.Sprintf(format, args...)})
	}
	byID := map[string]access.Event{}
	for _, e := range events {
		byID[e.ID()] = e
	}
	sealed := map[string]bool{}
	prev := ""
	want := 1
	for _, s := range seals {
		// One finding for a gap, however wide: a number may have been made up.
		switch gap := s.Seq - want; {
		case gap == 1:
			found(want, "", SealMissing, "seal %d is missing", want)
		case gap > 1:
			found(want, "", SealMissing, "the seals %d to %d are missing", want, s.Seq-1)
		}
		if s.Seq > want {
			want = s.Seq
		}
		sum, err := s.sum()
		switch {
		case s.Subject != subject || s.Seq != want || err != nil || sum != s.Hash:
			found(s.Seq, s.Event, SealAltered, "seal %d was altered", s.Seq)
		case s.Seq > 1 && prev != s.Prev:
			found(s.Seq, s.Event, SealAltered, "seal %d does not follow the one before it", s.Seq)
		}
		prev, want = s.Hash, s.Seq+1
		e, ok := byID[s.Event]
		if !ok {
			found(s.Seq, s.Event, EventMissing, "event %d, %s, is gone", s.Seq, s.Event)
			continue
		}
		sealed[s.Event] = true
		if d, err := Digest(e); err != nil || d != s.Digest {
			found(s.Seq, s.Event, EventAltered, "event %d, %s, is not what was sealed", s.Seq, s.Event)
		}
	}
	for _, e := range events {
		if !sealed[e.ID()] && !e.At.After(recent) {
			found(0, e.ID(), EventUnsealed, "the event %s of %s was never sealed", e.ID(), e.At.UTC().Format(time.RFC3339))
		}
	}
	return out
}
