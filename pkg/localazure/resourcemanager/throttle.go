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
		wait := time.Duration((1 - b.tokens) / b.refill * float64(time.Second))
		return b.refuse(subscription, max(wait, time.Second), h)
	}
	b.tokens--
	h.Set(b.header, strconv.Itoa(int(b.tokens)))
	return nil
}

// refuse answers that the bucket is empty.
func (b *bucket) refuse(subscription string, wait time.Duration, h http.Header) *armError {
	h.Set(b.header, "0")
	return newError(http.StatusTooManyRequests, "SubscriptionRequestsThrottled",
		"Number of '%s' requests for subscription '%s' exceeded. Please try again after '%d' seconds after additional tokens are available. Refer to https://aka.ms/arm-throttling for additional information.",
		b.verb, subscription, wholeSeconds(wait)).retryAfter(wait)
}

// Microsoft.Network's own limit per subscription and region ("Understand how Azure
// Resource Manager throttles requests", network throttling): 1,000 writes and
// deletes together in 5 minutes. Its 10,000 reads are beyond what the bucket of
// one principal lets through in that time.
const (
	quotaLimit  = 1000
	quotaWindow = 5 * time.Minute
)

// quota counts what that limit is on; the stand-in has one region. That a window
// begins with its first request, and the code of the refusal, are inferred from
// other providers (Azure/azqr#34).
type quota struct {
	began time.Time
	used  int
}

// take spends one request of the quota, and answers 429 until the window's end
// when there is none left.
func (q *quota) take(now time.Time) *armError {
	if age := now.Sub(q.began); age < 0 || age >= quotaWindow {
		q.began, q.used = now, 0
	}
	if q.used == quotaLimit {
		wait := q.began.Add(quotaWindow).Sub(now)
		return newError(http.StatusTooManyRequests, "ResourceRequestsThrottled",
			"Number of requests for %s exceeded the limit of '%d' for time interval '00:05:00'. Please try again after '%d' seconds.",
			network, quotaLimit, wholeSeconds(wait)).retryAfter(wait)
	}
	q.used++
	return nil
}
