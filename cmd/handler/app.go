package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/identity"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
)

// The queues and the topic, as infra/entities.json makes them.
var queues = servicebus.Queues{Requests: "access-requests", Reconcile: "nsg-reconcile", Rejected: "access-rejected", EventOutbox: "event-outbox", Events: "access-events"}

// App is the wired handler.
type App struct {
	listener net.Listener
	server   *http.Server
}

// NewApp wires the handler and listens; nothing is asked of the network yet,
// so that the host's first ping is answered at once.
func NewApp(ctx context.Context, cfg config.Config, secrets config.Secrets, clock broker.Clock, log *slog.Logger) (*App, error) {
	seen, err := telemetry.New(ctx, exports(cfg.Telemetry), log)
	if err != nil {
		return nil, err
	}
	watch := connect.Watch{}
	if cfg.Telemetry.Endpoint != "" {
		watch.Traces = seen.Traces()
	}
	if watch.Quota, err = network.NewQuota(seen, clock, log); err != nil {
		return nil, err
	}
	store, err := connect.Tables(cfg.Tables, watch)
	if err != nil {
		return nil, err
	}
	client, err := connect.ServiceBus(cfg.ServiceBus)
	if err != nil {
		return nil, err
	}
	sender, err := servicebus.New(client, queues, seen)
	if err != nil {
		return nil, err
	}
	azure, err := connect.Network(cfg, cfg.Tables, clock, watch)
	if err != nil {
		return nil, err
	}
	verifier, err := identity.NewVerifier(identity.Config{
		Issuer: cfg.Issuer, JWKSURL: cfg.JWKSURL, Audiences: cfg.Audiences, TenantID: cfg.TenantID,
	}, &http.Client{Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	prompter, err := broker.NewEventPrompter(sender, log)
	if err != nil {
		return nil, err
	}
	go prompter.Run(ctx)
	store = store.Telling(prompter.Ask)
	root, err := wire(cfg, parts{store, sender, azure, verifier, secrets, clock, log, seen})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port)))
	if err != nil {
		return nil, err
	}
	return &App{l, &http.Server{
		Handler: root, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}}, nil
}

// exports turns the settings into those of the exports.
func exports(c config.Telemetry) telemetry.Settings {
	s := telemetry.Settings{
		Endpoint: c.Endpoint, Headers: map[string]string{}, Service: c.Service, Ratio: c.Ratio,
		MetricsEvery: c.MetricsEvery, SpansEvery: c.SpansEvery, Cumulative: c.Cumulative,
	}
	for name, value := range c.Headers {
		s.Headers[name] = string(value)
	}
	return s
}

// Serve answers until the listener fails.
func (a *App) Serve() error { return a.server.Serve(a.listener) }
