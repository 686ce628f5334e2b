package brokertest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// Anchors keeps anchors in memory.
type Anchors struct {
	*Faults
	mu   sync.Mutex
	data map[int64][]byte
}

// AnchoredHours implements broker.AnchorReader.
func (a *Anchors) AnchoredHours(_ context.Context, from, to time.Time) (out []time.Time, err error) {
	err = a.Do(func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, at := range slices.Sorted(maps.Keys(a.data)) {
			if hour := time.Unix(at, 0).UTC(); !hour.Before(from) && hour.Before(to) {
				out = append(out, hour)
			}
		}
		return nil
	})
	return out, err
}

// Anchor implements broker.AnchorReader.
func (a *Anchors) Anchor(_ context.Context, hour time.Time) (data []byte, err error) {
	err = a.Do(func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		var ok bool
		if data, ok = a.data[hour.Unix()]; !ok {
			return access.Errorf(access.NotFound, "anchor_missing", "there is none")
		}
		return nil
	})
	return data, err
}

// AddAnchor implements broker.Anchors.
func (a *Anchors) AddAnchor(_ context.Context, hour time.Time, data []byte) error {
	return a.Do(func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if _, ok := a.data[hour.Unix()]; ok {
			return access.Errorf(access.AlreadyExists, "anchor_exists", "there is one")
		}
		if a.data == nil {
			a.data = map[int64][]byte{}
		}
		a.data[hour.Unix()] = slices.Clone(data)
		return nil
	})
}
