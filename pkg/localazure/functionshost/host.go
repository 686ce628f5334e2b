// Package functionshost stands in for the Azure Functions host v4 with a custom
// handler: it runs a staged function app as the real host does, so that the
// unmodified handler binary can be exercised on a machine without Azure.
//
// It follows the sources of Azure/azure-functions-host (src/WebJobs.Script and
// its Workers/Http), azure-webjobs-sdk-extensions (Http, Timers) and
// Microsoft.Azure.WebJobs.Extensions.ServiceBus: the life of the handler
// process, the encoding of an invocation, how an answer is judged, and when a
// message is completed or abandoned. What it does not support it refuses when
// it reads the app, never in passing.
//
// # Faults
//
// A fault plan ([Host.Faults], or fault.Path on the front end) knows two kinds
// of operation: "invoke <Function>" is one invocation of a function with a queue
// or timer trigger, and "http <METHOD> <path>" one request of the front end that
// is not for the admin endpoints of this package.
//
//   - slow, pause: the invocation or request goes on after Delay, or once the
//     plan is replaced. Locks are renewed meanwhile; functionTimeout does not run.
//   - drop: it never reaches the handler. The invocation fails, which abandons
//     its message; the caller's connection ends.
//   - throttle, refuse: the caller gets 429 with Retry-After, or 403. A trigger
//     has no caller to tell, so to an invocation they are what drop is.
//   - lose-reply: the handler does its work and its answer is lost. The
//     invocation fails; the caller's connection ends.
//   - lock: once the handler has the invocation, the message's or session's lock
//     is given up: the message comes again, to another receiver perhaps, while
//     the handler still works, and the outcome settles nothing. Timers and
//     requests hold no lock, so nothing befalls them.
//   - kill: the handler's processes are killed Delay after it has the invocation
//     or request, or at its answer if that comes first. Everything in flight
//     fails, what comes next waits for the next run. It is the host's own kill,
//     as after functionTimeout: three of them do not stop the host.
//
// # Left out
//
//   - cardinality many, output bindings other than http, and triggers other than
//     Service Bus, timer and HTTP are refused. prefetchCount is taken for 0.
//   - maxConcurrentCallsPerSession above 1 is refused.
//   - A request that cannot be proxied is not tried again; the real host tries up
//     to ten times within some two seconds (RetryProxyHandler).
//   - A redirect that answers an invocation is a failure; the real host's client
//     would follow it.
//   - After a restart the handler has another port, unless host.json fixes one.
//   - Health pings to / after the first; scaling; several instances (run several
//     Hosts); slots; CORS; the http section's own throttles.
package functionshost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

// HostVersion is the version that the host gives itself towards the handler
// (X-Azure-Functions-HostVersion) and in /admin/host/status.
const HostVersion = "4.1040.100"

// Config is what a Host needs. AppRoot is required.
type Config struct {
	// AppRoot is the staged folder: host.json, <Name>/function.json and the
	// handler binary. It may be relative to the working directory.
	AppRoot string
	// Settings are the app settings: the handler's environment, the values of
	// %Name% in function.json, and where a "connection" is looked up.
	Settings map[string]string
	// ServiceBus resolves the "connection" of a function.json to a client,
	// which the host closes when Run ends. It is asked once per connection and
	// may be nil when no function has a Service Bus trigger.
	ServiceBus func(connection string) (*azservicebus.Client, error)
	// Keys are the host's keys by name; "_master" is the master key. Any of
	// them opens a function of authLevel function, only the master key one of
	// authLevel admin and the admin endpoints. Empty values open nothing.
	Keys map[string]string
	// Verify checks a bearer token and returns its claims. Where it is nil,
	// Easy Auth is off.
	Verify func(ctx context.Context, token string) (map[string]any, error)
	// ClientAddress is the address that callers seem to have, in place of their
	// own, which on one machine is loopback; invalid leaves it their own.
	ClientAddress netip.Addr
	// SignIn serves /.auth/, which takes Verify too; nil leaves it out.
	SignIn *SignIn
	// Stdout receives the handler's output and one line per invocation; nil
	// discards them.
	Stdout io.Writer
	// Logger receives the host's own events; nil discards them.
	Logger *slog.Logger
	// StateDir is a folder that keeps when each timer last ran, as the real
	// host keeps it in AzureWebJobsStorage: only with it can a timer find at
	// start that it is past due. Empty keeps nothing.
	StateDir string
}

// Host is one running function app. Create it with New, start it once with Run,
// and serve it as an http.Handler; all methods are safe for concurrent use.
type Host struct {
	cfg       Config
	options   hostOptions
	functions []*function // by name, alphabetically; without excluded ones
	routes    []route     // in the order in which they are tried
	console   *console
	log       *slog.Logger
	handler   *supervisor
	client    *http.Client // towards the handler
	call      caller       // how triggers invoke functions
	timers    timerStore   // where timers keep their status
	proxy     http.Handler // forwards to the handler
	calls     background   // invocations started by the admin endpoint
	faults    *fault.Injector
	signIns   signIns
	counts    counters
	running   atomic.Bool     // Run was called
	base      context.Context // Run's context, for calls; set before ready is closed
	started   time.Time       // when Run was called; set before ready is closed
	ready     chan struct{}
}

// call is one invocation of a function that is not HTTP.
type call struct {
	fn       *function
	reason   string // in the log
	envelope envelope
	loseLock func() // gives up what the trigger holds; nil where it holds nothing
}

// caller makes a call and returns nil if it succeeded.
type caller func(ctx context.Context, c call) error

// Function describes one function of the app.
type Function struct {
	Name      string   // the folder's name
	Trigger   string   // serviceBusTrigger, timerTrigger or httpTrigger
	Route     string   // HTTP only: the template with routePrefix, no leading slash
	Methods   []string // HTTP only: in capitals; empty means every method
	AuthLevel string   // HTTP only: anonymous, function or admin
	Source    string   // queue path, topic/Subscriptions/name, or schedule
	Disabled  bool     // by function.json or the setting AzureWebJobs.<Name>.Disabled
}

// New reads host.json and every function.json below cfg.AppRoot and checks all
// of it against the settings. The error lists every fault, one per line.
func New(cfg Config) (*Host, error) {
	h := &Host{cfg: cfg, ready: make(chan struct{}), log: cfg.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.console = newConsole(cfg.Stdout)
	var faults []error
	if h.options, faults = readHostJSON(cfg.AppRoot); h.options.root == "" {
		return nil, faultList(cfg.AppRoot, faults)
	}
	functions, more := readFunctions(h.options, cfg.Settings)
	faults = append(faults, more...)
	for _, f := range functions {
		if f.queue != nil && cfg.ServiceBus == nil {
			faults = append(faults, fmt.Errorf("%s: a Service Bus trigger, but Config.ServiceBus is nil", f.Name))
		}
	}
	if len(faults) > 0 {
		return nil, faultList(cfg.AppRoot, faults)
	}
	h.functions, h.routes = functions, routesOf(functions)
	h.handler = newSupervisor(h.options, handlerEnvironment(cfg, h.options), h.console, h.log)
	h.client = newHandlerClient()
	h.proxy = newProxy(h.options.streaming, h.log)
	h.call = h.invoke
	h.faults = newInjector()
	h.handler.started = h.counts.startHandler
	h.timers = timerStore{dir: cfg.StateDir}
	h.warnOfForgeable()
	return h, nil
}

func faultList(root string, faults []error) error {
	return fmt.Errorf("function app %s is not usable:\n%w", root, errors.Join(faults...))
}

// warnOfForgeable names functions whose invocation path an HTTP route lets
// through: the handler gets the original path, so an outsider could post a
// forged invocation there (the real host serves such an app without a word).
func (h *Host) warnOfForgeable() {
	for _, f := range h.functions {
		for _, r := range h.routes {
			if f.http == nil && r.fn.http.proxied && r.template.matches([]string{f.Name}) {
				h.log.Warn("an HTTP route lets outsiders forge invocations",
					"function", f.Name, "route", r.fn.Route, "by", r.fn.Name)
			}
		}
	}
}

// Functions lists the app's functions by name.
func (h *Host) Functions() []Function {
	list := make([]Function, len(h.functions))
	for i, f := range h.functions {
		list[i] = f.Function
		list[i].Methods = slices.Clone(f.Methods)
	}
	return list
}

// Ready is closed when the handler has answered its first readiness probe and
// the triggers listen. It stays open when Run ends before that.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// errRunTwice is what a second Run gets.
var errRunTwice = errors.New("functionshost: Run was called before")

// Run starts the handler and, once it answers, the triggers. It returns nil
// when ctx ends, and an error when the host gives up, as the real one does on
// the handler's third error within 30 minutes. In every case the handler's
// whole process group has been killed, and invocations in flight have failed,
// before it returns. It may be called once.
func (h *Host) Run(ctx context.Context) error {
	if h.running.Swap(true) {
		return errRunTwice
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer h.client.CloseIdleConnections()
	h.base, h.started = ctx, time.Now()

	died := make(chan error, 1)
	go func() { died <- h.handler.run(ctx); cancel() }()
	if _, err := h.handler.address(ctx); err != nil {
		return <-died
	}
	opener, closeClients, err := h.connect()
	if err != nil {
		cancel()
		return errors.Join(err, <-died)
	}
	listeners := h.startListeners(ctx, opener)
	close(h.ready)

	err = <-died // after cancel, so every listener is told as well
	listeners.Wait()
	h.calls.close()
	closeClients()
	return err
}

// startListeners starts one listener per enabled trigger that is not HTTP.
func (h *Host) startListeners(ctx context.Context, opener queueOpener) *sync.WaitGroup {
	var group sync.WaitGroup
	for _, f := range h.functions {
		switch {
		case f.Disabled:
		case f.timer != nil:
			group.Go(func() { h.runTimer(ctx, f) })
		case f.queue != nil && f.queue.sessions:
			group.Go(func() { h.runSessions(ctx, f, opener) })
		case f.queue != nil:
			group.Go(func() { h.runQueue(ctx, f, opener) })
		}
	}
	return &group
}

// connect makes one client per connection that an enabled trigger names.
func (h *Host) connect() (queueOpener, func(), error) {
	clients := map[string]*azservicebus.Client{}
	closeAll := func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		for _, name := range slices.Sorted(maps.Keys(clients)) {
			if err := clients[name].Close(ctx); err != nil {
				h.log.Warn("closing a Service Bus client", "connection", name, "error", err)
			}
		}
	}
	for _, f := range h.functions {
		if f.queue == nil || f.Disabled || clients[f.queue.connection] != nil {
			continue
		}
		client, err := h.cfg.ServiceBus(f.queue.connection)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("%s: connection %q: %w", f.Name, f.queue.connection, err)
		}
		clients[f.queue.connection] = client
	}
	return sdkOpener{clients: clients}, closeAll, nil
}

// background is a group of goroutines that can be closed for newcomers.
type background struct {
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

// start runs f in the background unless the group is closed.
func (b *background) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.group.Go(f)
	}
	return !b.closed
}

// close waits for what runs and lets nothing more start.
func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.group.Wait()
}

// find returns the function of that name, in any case, or nil.
func (h *Host) find(name string) *function {
	for _, f := range h.functions {
		if strings.EqualFold(f.Name, name) {
			return f
		}
	}
	return nil
}
