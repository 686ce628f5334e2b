package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/handlers/portal"
	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
	"github.com/portcullis-access/portcullis/pkg/identity"
)

// The queues, as infra/entities.json makes them.
var queues = servicebus.Queues{Requests: "access-requests", Reconcile: "nsg-reconcile", Rejected: "access-rejected"}

// App is the wired handler.
type App struct {
	listener net.Listener
	server   *http.Server
}

// NewApp wires the handler and listens; nothing is asked of the network yet,
// so that the host's first ping is answered at once.
func NewApp(ctx context.Context, cfg config.Config, clock broker.Clock, log *slog.Logger) (*App, error) {
	store, err := connect.Tables(cfg.Tables)
	if err != nil {
		return nil, err
	}
	client, err := connect.ServiceBus(cfg.ServiceBus)
	if err != nil {
		return nil, err
	}
	sender, err := servicebus.New(client, queues)
	if err != nil {
		return nil, err
	}
	azure, err := connect.Network(cfg, cfg.Tables, clock)
	if err != nil {
		return nil, err
	}
	verifier, err := identity.NewVerifier(identity.Config{
		Issuer: cfg.Issuer, JWKSURL: cfg.JWKSURL, Audiences: cfg.Audiences, TenantID: cfg.TenantID,
	}, &http.Client{Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	root, err := wire(cfg, parts{store, sender, azure, verifier}, clock, log)
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

// Serve answers until the listener fails.
func (a *App) Serve() error { return a.server.Serve(a.listener) }

type parts struct {
	store    *tables.Store
	sender   *servicebus.Sender
	azure    *network.Network
	verifier *identity.Verifier
}

func wire(cfg config.Config, p parts, clock broker.Clock, log *slog.Logger) (http.Handler, error) {
	submitter, err := broker.NewSubmitter(broker.SubmitPorts{
		Policies: p.store, Requests: p.store, Files: p.store, Marks: p.store, Index: p.store, Starts: p.store, Events: p.store, Lockdowns: p.store,
		Ledger: p.store, Machines: p.azure, Prompts: p.sender, StartPrompts: p.sender, Clock: clock, Token: uuid.NewString,
	}, broker.SubmitSettings{
		ShortestDuration: cfg.ShortestDuration, OpenWithin: cfg.OpenWithin, SnapshotAge: cfg.SnapshotAge,
		MaxLiveGrants: cfg.MaxLiveGrants, MaxRequestsPerHour: cfg.MaxRequestsPerHour,
	})
	if err != nil {
		return nil, err
	}
	reconciler, err := broker.NewReconciler(broker.ReconcilePorts{
		Ledger: p.store, Legs: p.store, Files: p.store, Policies: p.store, Lockdowns: p.store, Baselines: p.store, Events: p.store, Machines: p.azure, Groups: p.azure, Prompts: p.sender,
		Clock: clock, Token: uuid.NewString, Log: log,
	}, cfg.Rules)
	if err != nil {
		return nil, err
	}
	lockdown, err := broker.NewLockdownDesk(broker.LockdownPorts{
		Lockdowns: p.store, Heads: p.store, Ledger: p.store, Legs: p.store, Prompts: p.sender, History: p.store, Clock: clock, Token: uuid.NewString,
	})
	if err != nil {
		return nil, err
	}
	sweeper, err := broker.NewSweeper(broker.SweepPorts{
		Heads: p.store, Pending: p.store, Prompts: p.sender, Clock: clock, Log: log, Resume: submitter.Resume, Reconcile: reconciler.Reconcile,
		Starts: p.store, Start: submitter.Start, Lockdown: lockdown.Tell,
	})
	if err != nil {
		return nil, err
	}
	enabler, err := broker.NewEnabler(broker.EnablePorts{
		Policies: p.store, Lister: p.azure, Machines: p.azure, Groups: p.azure, Heads: p.store, Baselines: p.store,
		Prompts: p.sender, Clock: clock, Token: uuid.NewString, Log: log, Neighbourhood: p.azure,
	}, cfg.Rules)
	if err != nil {
		return nil, err
	}
	scanner, err := broker.NewScanner(broker.ScanPorts{
		Subscriptions: cfg.Subscriptions, Lister: p.azure, Groups: p.azure, Heads: p.store, Ledger: p.store, Legs: p.store, Baselines: p.store, Ensure: enabler.Ensure,
		Machines: p.azure, Prompts: p.sender, Clock: clock, Token: uuid.NewString, Log: log,
	}, cfg.Rules)
	if err != nil {
		return nil, err
	}
	dead, err := broker.NewDeadLetters(p.store, p.sender, p.store, p.sender, clock, uuid.NewString, log)
	if err != nil {
		return nil, err
	}
	viewer, err := broker.NewViewer(p.store, p.store, p.store, clock)
	if err != nil {
		return nil, err
	}
	request, err := handlers.NewRequestAccess(submitter, p.sender, clock, cfg.MaxAttempts, log)
	if err != nil {
		return nil, err
	}
	grants, err := broker.NewGrants(p.store, p.store, p.store, p.store, p.sender, clock, uuid.NewString)
	if err != nil {
		return nil, err
	}
	policies, err := broker.NewPolicyDesk(broker.PolicyPorts{
		Policies: p.store, Grants: grants, Events: p.store, Clock: clock, Token: uuid.NewString, Baselines: enabler.Plan, Ensure: enabler.Ensure,
	})
	if err != nil {
		return nil, err
	}
	api, err := handlers.NewAccessAPI(handlers.APIParts{Requests: submitter, Views: viewer, Policies: policies, Identities: p.verifier, Log: log})
	if err != nil {
		return nil, err
	}
	page, err := portal.New()
	if err != nil {
		return nil, err
	}
	return customhandler.New(map[string]customhandler.Function{
		"RequestAccess": request.Handle,
		"ReconcileNsg":  handlers.ReconcileNsg(reconciler.Reconcile),
		"Sweep":         handlers.Timer(sweeper.Sweep),
		"Scan":          handlers.Timer(scanner.Scan),
		"DeadRequest":   handlers.DeadRequest(dead),
		"DeadReconcile": handlers.DeadReconcile(dead),
	}, page.Before(handlers.SameOrigin(api)), log)
}
