package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// keysAge is how long fetched keys are given out again. Every token of an
	// unknown key makes the verifier fetch them, and anybody can make such a
	// token up; the issuer must not be flooded through us.
	keysAge = time.Minute
	// maxKeys bounds a key set, in bytes. Entra's has about 20,000.
	maxKeys = 128 << 10
)

// recentKeys fetches a key set, and repeats its last good answer for a while.
// A failure is not kept.
type recentKeys struct {
	next http.RoundTripper // nil is the default

	mu   sync.Mutex
	at   time.Time
	keys []byte // nil before the first
}

// RoundTrip implements http.RoundTripper for the one URL that it is used for.
func (k *recentKeys) RoundTrip(r *http.Request) (*http.Response, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || time.Since(k.at) >= keysAge {
		keys, err := k.fetch(r)
		if err != nil {
			return nil, err
		}
		k.keys, k.at = keys, time.Now()
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(k.keys)), Request: r,
	}, nil
}

func (k *recentKeys) fetch(r *http.Request) ([]byte, error) {
	next := k.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the keys' address answered %d", res.StatusCode)
	}
	keys, err := io.ReadAll(io.LimitReader(res.Body, maxKeys+1))
	if err == nil && len(keys) > maxKeys {
		err = fmt.Errorf("the key set has more than %d bytes", maxKeys)
	}
	if err == nil && !json.Valid(keys) {
		err = errors.New("the key set is not JSON")
	}
	return keys, err
}
