package network

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// The headers in which Resource Manager says what is left ("Understand how Azure
// Resource Manager throttles requests"): of its own quotas, of those that a provider
// puts in their place, and of a provider's own, as "Microsoft.Network/Some;12,…".
const (
	remainingOfSubscription = "X-Ms-Ratelimit-Remaining-Subscription-"
	remainingOfResource     = "X-Ms-Ratelimit-Remaining-Resource"
)

// quotas are the endings of the first that are known, and the series they become.
var quotas = []string{"Reads", "Writes", "Deletes", "Global-Reads", "Global-Writes", "Global-Deletes", "Resource-Requests", "Resource-Entities-Read"}

const (
	// lowQuota is how many calls are few. A subscription's writes begin at 200 and
	// come back at ten a second, so 20 are two seconds' worth.
	lowQuota = 20
	// sayAgainAfter is how often the log is told of it.
	sayAgainAfter = time.Minute
)

// Quota watches what Resource Manager says is left of its quotas.
type Quota struct {
	meter broker.Meter
	clock broker.Clock
	log   *slog.Logger

	mu   sync.Mutex
	told time.Time
}

// NewQuota makes a Quota; put it among the PerRetryPolicies of the client options.
func NewQuota(meter broker.Meter, clock broker.Clock, log *slog.Logger) (*Quota, error) {
	if meter == nil || clock == nil || log == nil {
		return nil, errors.New("network: the watch on quotas lacks a part")
	}
	return &Quota{meter: meter, clock: clock, log: log}, nil
}

// Do implements policy.Policy.
func (q *Quota) Do(req *policy.Request) (*http.Response, error) {
	res, err := req.Next()
	if res != nil {
		q.read(req, res.Header)
	}
	return res, err
}

func (q *Quota) read(req *policy.Request, h http.Header) {
	least, of := -1, ""
	note := func(name, value string) {
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || n < 0 {
			return // not what is documented, and nothing hangs on it
		}
		q.meter.Measure(req.Raw().Context(), broker.MetricQuota, float64(n), name)
		if least < 0 || n < least {
			least, of = n, name
		}
	}
	for _, name := range quotas {
		note(strings.ToLower(name), h.Get(remainingOfSubscription+name))
	}
	for _, part := range strings.Split(h.Get(remainingOfResource), ",") {
		if i := strings.LastIndexByte(part, ';'); i >= 0 {
			note("resource", part[i+1:])
		}
	}
	if least < 0 || least >= lowQuota {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := q.clock(); now.Sub(q.told) >= sayAgainAfter {
		q.told = now
		q.log.WarnContext(req.Raw().Context(), "ALARM few calls to Resource Manager are left", "alarm", "arm_quota_low", "quota", of, "left", least)
	}
}
