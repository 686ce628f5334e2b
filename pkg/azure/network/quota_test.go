package network_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
)

// answers is a transport that gives one set of headers.
type answers struct{ header http.Header }

func (a *answers) Do(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: a.header, Body: http.NoBody, Request: r}, nil
}

func TestWhatIsLeftOfAQuotaIsReadAndFewIsAnAlarmOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	meter, now := &brokertest.Meter{}, time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	quota, err := network.NewQuota(meter, func() time.Time { return now }, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	arm := &answers{}
	pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{Transport: arm, PerRetryPolicies: []policy.Policy{quota}})
	call := func(header map[string]string) {
		t.Helper()
		arm.header = http.Header{}
		for k, v := range header {
			arm.header.Set(k, v)
		}
		req, err := runtime.NewRequest(t.Context(), http.MethodGet, "https://management.azure.com/x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pipeline.Do(req); err != nil {
			t.Fatal(err)
		}
	}
	call(map[string]string{
		"x-ms-ratelimit-remaining-subscription-reads": "249", "x-ms-ratelimit-remaining-subscription-resource-requests": "800",
		"x-ms-ratelimit-remaining-resource": "Microsoft.Compute/LowCostGet3Min;3997,Microsoft.Compute/LowCostGet30Min;31997",
	})
	for series, want := range map[string]float64{"reads": 249, "resource-requests": 800} {
		if got := meter.Value(broker.MetricQuota, series); got != want {
			t.Errorf("%s: %v, want %v", series, got, want)
		}
	}
	// What is not documented is no number.
	for _, odd := range []string{"", "-1", "many", "1e9", "99999999999999999999"} {
		call(map[string]string{"x-ms-ratelimit-remaining-subscription-reads": odd, "x-ms-ratelimit-remaining-resource": ";" + odd, "x-ms-ratelimit-remaining-subscription-" + person: "1"})
	}
	if got := meter.Value(broker.MetricQuota, "reads"); got != 249 || log.Len() > 0 {
		t.Errorf("%v, %s", got, log.String())
	}
	few := func(want int) {
		t.Helper()
		call(map[string]string{"x-ms-ratelimit-remaining-subscription-reads": "249", "x-ms-ratelimit-remaining-subscription-writes": "7"})
		if n := strings.Count(log.String(), `"alarm":"arm_quota_low","quota":"writes","left":7`); n != want {
			t.Errorf("%d alarms, want %d: %s", n, want, log.String())
		}
	}
	few(1)
	few(1)
	now = now.Add(time.Minute)
	few(2)
	if _, err := network.NewQuota(nil, nil, nil); err == nil {
		t.Error("it was made of nothing")
	}
}

const person = "alice"
