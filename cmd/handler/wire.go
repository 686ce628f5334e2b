package main

import (
	"log/slog"
	"net/http"

	"github.com/google/uuid"
	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/handlers/portal"
	"github.com/portcullis-access/portcullis/pkg/accessevent"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
	"github.com/portcullis-access/portcullis/pkg/identity"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
)

// parts are the adapters, and what else the use cases stand on.
type parts struct {
	store    *tables.Store
	sender   *servicebus.Sender
	azure    *network.Network
	verifier *identity.Verifier
	secrets  config.Secrets
	clock    broker.Clock
	log      *slog.Logger
	seen     *telemetry.Telemetry
}

// core is the use cases that functions run.
type core struct {
	submitter  *broker.Submitter
	reconciler *broker.Reconciler
	lockdown   *broker.LockdownDesk
	enabler    *broker.Enabler
	sweeper    *broker.Sweeper
	scanner    *broker.Scanner
	retirer    *broker.Retirer
	dead       *broker.DeadLetters
	desk       *broker.Desk
	tickets    *broker.TicketDesk
	publisher  *broker.Publisher
}

// wire puts the handler together: queues and timers are functions, the rest is
// the page and the API.
func wire(cfg config.Config, p parts) (http.Handler, error) {
	c, err := wireCore(cfg, p)
	if err != nil {
		return nil, err
	}
	request, err := handlers.NewRequestAccess(c.submitter, c.tickets, p.sender, p.clock, cfg.MaxAttempts, p.log)
	if err != nil {
		return nil, err
	}
	refusals, err := handlers.NewRefusals(p.seen, p.clock, p.log)
	if err != nil {
		return nil, err
	}
	api, err := wireAPI(cfg, p, c, refusals)
	if err != nil {
		return nil, err
	}
	webhook, err := handlers.NewTicketWebhook(handlers.WebhookParts{
		Sources: p.store, Tickets: c.tickets, Secrets: p.secretValues, Clock: p.clock, Refusals: refusals, Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	page, err := portal.New()
	if err != nil {
		return nil, err
	}
	anchor, err := anchoring(cfg, p.store, p.clock)
	if err != nil {
		return nil, err
	}
	return customhandler.New(map[string]customhandler.Function{
		"RequestAccess": p.seen.Queue("RequestAccess", queues.Requests, telemetry.Anybody, request.Handle),
		"ReconcileNsg":  p.seen.Queue("ReconcileNsg", queues.Reconcile, telemetry.Ours, handlers.ReconcileNsg(c.reconciler.Reconcile)),
		"Sweep":         p.seen.Timer("Sweep", handlers.Timer(c.sweeper.Sweep)),
		"Scan":          p.seen.Timer("Scan", handlers.Timer(scanning(c.scanner.Scan, c.retirer.Retire, p.log))),
		"Anchor":        p.seen.Timer("Anchor", handlers.Timer(anchor)),
		"DeadRequest":   p.seen.Queue("DeadRequest", queues.Requests, telemetry.Anybody, handlers.DeadRequest(c.dead)),
		"DeadReconcile": p.seen.Queue("DeadReconcile", queues.Reconcile, telemetry.Anybody, handlers.DeadReconcile(c.dead)),
		"PublishEvents": p.seen.Queue("PublishEvents", queues.EventOutbox, telemetry.Ours, handlers.PublishEvents(c.publisher.Publish, p.log)),
	}, p.seen.Web(webhook.Before(page.Before(handlers.SameOrigin(api)))), p.log)
}

func wireCore(cfg config.Config, p parts) (c core, err error) {
	if c.submitter, err = broker.NewSubmitter(broker.SubmitPorts{
		Policies: p.store, Requests: p.store, Files: p.store, Marks: p.store, Index: p.store, Starts: p.store, Events: p.store, Lockdowns: p.store,
		Tickets: p.store, Ledger: p.store, Machines: p.azure, Prompts: p.sender, StartPrompts: p.sender, Clock: p.clock, Token: uuid.NewString, Meter: p.seen,
	}, broker.SubmitSettings{
		ShortestDuration: cfg.ShortestDuration, OpenWithin: cfg.OpenWithin, SnapshotAge: cfg.SnapshotAge,
		MaxLiveGrants: cfg.MaxLiveGrants, MaxRequestsPerHour: cfg.MaxRequestsPerHour,
	}); err != nil {
		return c, err
	}
	if c.reconciler, err = broker.NewReconciler(broker.ReconcilePorts{
		Ledger: p.store, Legs: p.store, Files: p.store, Index: p.store, Policies: p.store, Lockdowns: p.store, Tickets: p.store, Baselines: p.store, Events: p.store, History: p.store,
		Machines: p.azure, Groups: p.azure, Prompts: p.sender, Clock: p.clock, Token: uuid.NewString, Log: p.log, Meter: p.seen,
	}, cfg.Rules); err != nil {
		return c, err
	}
	if c.lockdown, err = broker.NewLockdownDesk(broker.LockdownPorts{
		Lockdowns: p.store, Heads: p.store, Ledger: p.store, Legs: p.store, Prompts: p.sender, History: p.store, Clock: p.clock, Token: uuid.NewString,
	}); err != nil {
		return c, err
	}
	if c.enabler, err = broker.NewEnabler(broker.EnablePorts{
		Policies: p.store, Lister: p.azure, Machines: p.azure, Groups: p.azure, Heads: p.store, Baselines: p.store,
		Prompts: p.sender, Clock: p.clock, Token: uuid.NewString, Log: p.log, Neighbourhood: p.azure,
	}, cfg.Rules); err != nil {
		return c, err
	}
	if c.desk, c.tickets, err = wireDesks(p, c.submitter); err != nil {
		return c, err
	}
	if c.publisher, err = broker.NewPublisher(broker.PublishPorts{
		Notices: p.store, Seals: p.store, Journal: p.store, Topic: p.sender.EventTopic(accessevent.NewEncoder(cfg.Rules.Installation)), Clock: p.clock, Log: p.log,
	}); err != nil {
		return c, err
	}
	if c.sweeper, err = broker.NewSweeper(broker.SweepPorts{
		Heads: p.store, Ledger: p.store, Pending: p.store, Prompts: p.sender, Events: p.store, Clock: p.clock, Log: p.log, Publish: c.publisher.PublishDue, Resume: c.submitter.Resume, Reconcile: c.reconciler.Reconcile,
		Starts: p.store, Start: c.submitter.Start, Lockdown: c.lockdown.Tell,
		Tickets: p.store, WorkTicket: c.tickets.Work, Meter: p.seen,
	}); err != nil {
		return c, err
	}
	if c.scanner, err = broker.NewScanner(broker.ScanPorts{
		Subscriptions: cfg.Subscriptions, Lister: p.azure, Groups: p.azure, Heads: p.store, Ledger: p.store, Legs: p.store, Baselines: p.store,
		Ensure: c.enabler.Ensure, Machines: p.azure, Prompts: p.sender, Events: p.store, Clock: p.clock, Token: uuid.NewString, Log: p.log, Meter: p.seen, Forget: p.store, Retention: cfg.Retention,
	}, cfg.Rules); err != nil {
		return c, err
	}
	if c.retirer, err = broker.NewRetirer(broker.RetirePorts{
		Index: p.store, Record: p.store, Files: p.store, Seals: p.store, Notices: p.store, Starts: p.store, Pending: p.store, Legs: p.store,
		Clock: p.clock, Log: p.log, Retention: cfg.Retention,
	}); err != nil {
		return c, err
	}
	c.dead, err = broker.NewDeadLetters(p.store, p.sender, p.store, p.sender, p.clock, uuid.NewString, p.log, p.seen)
	return c, err
}

// wireDesks makes the desks of people and of tickets.
func wireDesks(p parts, submitter *broker.Submitter) (*broker.Desk, *broker.TicketDesk, error) {
	viewer, err := broker.NewViewer(p.store, p.store, p.store, p.clock)
	if err != nil {
		return nil, nil, err
	}
	desk, err := broker.NewDesk(broker.DeskPorts{
		Submitter: submitter, Viewer: viewer, Legs: p.store, Events: p.store, History: p.store, Heads: p.store,
	})
	if err != nil {
		return nil, nil, err
	}
	tickets, err := broker.NewTicketDesk(broker.TicketPorts{
		Tickets: p.store, Kept: p.store, Works: p.store, Prompts: p.sender, Events: p.store, Desk: desk, Log: p.log,
	})
	return desk, tickets, err
}

// secretValues hands the secrets to what verifies by them.
func (p parts) secretValues(names []string) []string {
	out := make([]string, len(names))
	for i, s := range p.secrets.Values(names) {
		out[i] = string(s)
	}
	return out
}

func wireAPI(cfg config.Config, p parts, c core, refusals *handlers.Refusals) (http.Handler, error) {
	policies, err := broker.NewPolicyDesk(broker.PolicyPorts{
		Policies: p.store, Grants: c.desk, Events: p.store, Clock: p.clock, Token: uuid.NewString, Baselines: c.enabler.Plan, Ensure: c.enabler.Ensure,
		Document: accessjson.EncodePolicy,
	})
	if err != nil {
		return nil, err
	}
	machines, err := broker.NewDiscoverer(broker.DiscoverPorts{
		Subscriptions: cfg.Subscriptions, Policies: p.store, Lister: p.azure, Machines: p.azure, GroupLister: p.azure, Groups: p.azure,
		Baselines: p.store, Activities: broker.UsageIndex{Index: p.store, Clock: p.clock}, Clock: p.clock,
	}, cfg.Rules)
	if err != nil {
		return nil, err
	}
	audits, err := broker.NewAuditDesk(p.store, p.store)
	if err != nil {
		return nil, err
	}
	sources, err := broker.NewSourceDesk(broker.SourcePorts{
		Sources: p.store, Events: p.store, Clock: p.clock, Token: uuid.NewString,
		Secret: func(name string) broker.SecretState { return broker.SecretState(p.secrets.State(name)) },
	})
	if err != nil {
		return nil, err
	}
	return handlers.NewAccessAPI(handlers.APIParts{
		Desk: c.desk, Changes: c.desk, Machines: machines, Policies: policies, Sources: sources, Lockdowns: c.lockdown, Audits: audits, Identities: p.verifier, Refusals: refusals, Log: p.log,
	})
}
