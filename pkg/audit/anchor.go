package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Head is how far a subject's chain had come: the number and the hash of a seal.
type Head struct {
	Subject string `json:"subject"`
	Seq     int    `json:"seq"`
	Hash    string `json:"hash"`
}

// Anchor says of one hour which chains had come how far. It is written once,
// where nobody can change it, and names the anchor before it by its hash: so it
// vouches for every seal up to its heads, and for every anchor before it.
type Anchor struct {
	// Installation is whose anchor it is.
	Installation string `json:"installation"`
	// Hour is the beginning of the hour.
	Hour time.Time `json:"hour"`
	// Count is how many seals of the hour the journal had. Late is how many of the
	// hour before it had that the anchor before does not count.
	Count int `json:"count"`
	Late  int `json:"late,omitempty"`
	// Heads are of the subjects with seals among those, each its last, by subject.
	Heads []Head `json:"heads"`
	// Prev is the SumOf the anchor before; "" for the first.
	Prev string `json:"prev,omitempty"`
	// WrittenAt is when it was made, by its maker's clock.
	WrittenAt time.Time `json:"writtenAt"`
}

// SumOf is the hash by which the next anchor names one: SHA-256 of its bytes, in
// hexadecimal.
func SumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ParseAnchor reads an anchor. What it does not know, or what no anchor of the
// hour can be, is an error.
func ParseAnchor(data []byte, hour time.Time) (Anchor, error) {
	var a Anchor
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return Anchor{}, fmt.Errorf("it cannot be read: %w", err)
	}
	switch {
	case dec.More():
		return Anchor{}, fmt.Errorf("something follows it")
	case !a.Hour.Equal(hour):
		return Anchor{}, fmt.Errorf("it is of the hour %s", a.Hour.UTC().Format(time.RFC3339))
	case a.Count < 0 || a.Late < 0:
		return Anchor{}, fmt.Errorf("it counts fewer than no seals")
	}
	for _, h := range a.Heads {
		if h.Subject == "" || h.Seq < 1 || h.Hash == "" {
			return Anchor{}, fmt.Errorf("it has a head that is none")
		}
	}
	return a, nil
}

// Encode gives the bytes of the anchor.
func (a Anchor) Encode() ([]byte, error) {
	if a.Heads == nil {
		a.Heads = []Head{}
	}
	data, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return append(data, '\n'), nil
}

// NewAnchor makes the anchor of an hour, out of the seals of that hour and of the
// hour before. before is the bytes of the anchor of the hour before; nil for none.
// The heads that it has already are left out.
func NewAnchor(installation string, hour time.Time, seals []Seal, before []byte, now time.Time) Anchor {
	a := Anchor{Installation: installation, Hour: hour.UTC(), WrittenAt: now.UTC()}
	anchored := map[string]Head{}
	earlier := 0
	if before != nil {
		a.Prev = SumOf(before)
		// Whatever it says cannot be undone, and is Check's to judge.
		if p, err := ParseAnchor(before, hour.Add(-time.Hour)); err == nil {
			a.Late -= p.Count
			for _, h := range p.Heads {
				anchored[h.Subject] = h
			}
		}
	}
	heads := map[string]Head{}
	for _, s := range seals {
		if s.At.Before(hour) {
			earlier++
		} else {
			a.Count++
		}
		if s.Seq > heads[s.Subject].Seq && s.Seq > anchored[s.Subject].Seq {
			heads[s.Subject] = Head{s.Subject, s.Seq, s.Hash}
		}
	}
	a.Late = max(0, a.Late+earlier)
	a.Heads = slices.SortedFunc(maps.Values(heads), func(a, b Head) int { return cmp.Compare(a.Subject, b.Subject) })
	return a
}

// Of an anchor and what it holds.
const (
	AnchorMissing   Problem = "anchor_missing"   // an hour has no anchor, and should
	AnchorUnlinked  Problem = "anchor_altered"   // an anchor is not the one that the next names, or is none
	JournalMissing  Problem = "journal_missing"  // the journal lacks a seal
	JournalMismatch Problem = "journal_mismatch" // the journal names a seal that the chain does not have
)
