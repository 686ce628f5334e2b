package resourcemanager

import (
	"net/http"
	"strconv"
	"time"
)

// bucket is one of Resource Manager's token buckets ("Understand how Azure
// Resource Manager throttles requests": subscription limits per principal and
// region: reads 250 refilled at 25/s, writes and deletes 200 at 10/s each).
type bucket struct {
	header string
	verb   string
	size   float64
	refill float64 // tokens per second

	tokens float64
	asOf   time.Time
}

type buckets struct{ reads, writes, deletes bucket }

func newBuckets(now time.Time) buckets {
	full := func(kind, verb string, size, refill float64) bucket {
		return bucket{header: "x-ms-ratelimit-remaining-subscription-" + kind, verb: verb, size: size, refill: refill, tokens: size, asOf: now}
	}
	return buckets{
		reads:   full("reads", "read", 250, 25),
		writes:  full("writes", "write", 200, 10),
		deletes: full("deletes", "delete", 200, 10),
	}
}

func (b *buckets) of(method string) *bucket {
	switch method {
	case http.MethodGet, http.MethodHead:
		return &b.reads
	case http.MethodDelete:
		return &b.deletes
	}
	return &b.writes
}

// take spends one token, puts the number left into h, and answers 429 when there
// is none.
func (b *bucket) take(now time.Time, subscription string, h http.Header) *armError {
	b.tokens = min(b.size, b.tokens+max(0, now.Sub(b.asOf).Seconds())*b.refill)
	b.asOf = now
	if b.tokens < 1 {
		h.Set(b.header, "0")
		wait := time.Duration((1 - b.tokens) / b.refill * float64(time.Second))
		seconds := int64((wait + time.Second - 1) / time.Second)
		return newError(http.StatusTooManyRequests, "SubscriptionRequestsThrottled",
			"Number of '%s' requests for subscription '%s' exceeded. Please try again after '%d' seconds after additional tokens are available. Refer to https://aka.ms/arm-throttling for additional information.",
			b.verb, subscription, seconds).retryAfter(max(wait, time.Second))
	}
	b.tokens--
	h.Set(b.header, strconv.Itoa(int(b.tokens)))
	return nil
}
