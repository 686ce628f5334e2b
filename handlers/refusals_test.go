package handlers_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
)

// doorman refuses every identity, for one reason.
type doorman struct{ reason string }

func (d *doorman) Verify(context.Context, *http.Request) (access.Caller, error) {
	return access.Caller{}, access.Errorf(access.Unauthenticated, d.reason, "no")
}

func TestRefusedIdentitiesAreCountedAndABurstIsOneAlarm(t *testing.T) {
	var log bytes.Buffer
	meter, who, now := &brokertest.Meter{}, &doorman{}, time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	refusals, err := handlers.NewRefusals(meter, func() time.Time { return now }, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{}
	api, err := handlers.NewAccessAPI(handlers.APIParts{Desk: deskFake{f}, Changes: deskFake{f}, Machines: nomachines{}, Policies: nopolicies{}, Sources: nosources{}, Lockdowns: nolockdowns{}, Audits: noaudits{},
		Identities: who, Refusals: refusals, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	call := func(reason string, times int) {
		who.reason = reason
		for range times {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/api/me", nil)
			r.Header.Set("Authorization", "Bearer hush")
			if api.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
				t.Fatalf("%d", w.Code)
			}
		}
	}
	alarms := func(want int) {
		t.Helper()
		if n := strings.Count(log.String(), `"alarm":"refused_identity"`); n != want {
			t.Errorf("%d alarms, want %d: %s", n, want, log.String())
		}
	}
	call("token_expired", 100)
	call("token_missing", 100)
	call("token_invalid", 19)
	alarms(0)
	call("token_invalid", 200)
	alarms(1)
	now = now.Add(time.Minute)
	call("token_invalid", 19)
	alarms(1)
	call("token_incomplete", 1)
	alarms(2)
	for reason, want := range map[string]float64{"token_expired": 100, "token_missing": 100, "token_invalid": 238, "token_incomplete": 1} {
		if got := meter.Value(broker.MetricRefused, reason); got != want {
			t.Errorf("%s: %v, want %v", reason, got, want)
		}
	}
	if strings.Contains(log.String(), "hush") {
		t.Error("a token is in the log")
	}
}
