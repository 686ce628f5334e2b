package functionshost

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/localazure/functionshost"
)

// Where the facts about the handler's life are from.
const (
	dispatcher = "S azure-functions-host src/WebJobs.Script/Workers/Http/HttpFunctionInvocationDispatcher.cs"
	process    = "S azure-functions-host src/WebJobs.Script/Workers/ProcessManagement/WorkerProcess.cs"
	service    = "S azure-functions-host src/WebJobs.Script/Workers/Http/DefaultHttpWorkerService.cs"
)

func TestLifecycle(t *testing.T) {
	hold(t, []fact{
		{"any status on / is ready", service + ", IsWorkerReady", anyStatusIsReady},
		{"/ is polled until the port is open", service + ", IsWorkerReady; Workers/WorkerConstants.cs, every 25 ms", polledUntilOpen},
		{"initializationTimeout is an error each time", "S azure-functions-host src/WebJobs.Script/Workers/Http/HttpWorkerChannel.cs, " +
			"DelayUntilWokerInitialized; Configuration/HttpWorkerOptions.cs, InitializationTimeout", neverReady},
		{"exit 0 leaves a dead port", process + ", OnProcessExited", exitZero},
		{"exit 200 restarts, without end", process + ", OnProcessExited; " + dispatcher + ", WorkerRestart", exitRestarts},
		{"the third error stops the host", dispatcher + ", RestartWorkerChannel (within 30 minutes: AddOrUpdateErrorBucket)", thirdErrorStops},
		{"an exit before it is ready counts too", process + ", OnProcessExited", exitBeforeReady},
		{"the environment", "S azure-functions-host src/WebJobs.Script/Workers/Http/HttpWorkerProcess.cs, CreateWorkerProcess; HttpWorkerConstants.cs. " +
			"I: of the host's own surroundings only what any process needs", environment},
		{"arguments and the working directory", "S azure-functions-host src/WebJobs.Script/Workers/ProcessManagement/DefaultWorkerProcessFactory.cs", arguments},
		{"levels of stdout and stderr", process + ", ParseErrorMessageAndLog; Workers/Http/HttpWorkerDescription.cs, UseStdErrorStreamForErrorsOnly", levels},
		{"the end is a kill", process + ", Dispose", endIsAKill},
		{"functionTimeout kills what is in flight", "S azure-functions-host src/WebJobs.Script.WebHost/WebScriptHostExceptionHandler.cs, OnTimeoutExceptionAsync; " +
			dispatcher + ", RestartWorkerWithInvocationIdAsync", timeoutKills},
	})
}

func anyStatusIsReady(t *testing.T) {
	h := setup{functions: anyRoute(), request: func(_ context.Context, e event) order {
		return order{Answer: &answer{Status: http.StatusServiceUnavailable}}
	}}.run(t)
	h.mu.Lock()
	defer h.mu.Unlock()
	if ping := h.events[1]; ping.Method != "GET" || ping.Path != "/" {
		t.Errorf("the first request was %s %s", ping.Method, ping.Path)
	}
}

func polledUntilOpen(t *testing.T) {
	open := make(chan struct{})
	h := setup{functions: anyRoute(), start: func(context.Context, event) order {
		<-open
		return order{}
	}}.launch(t)
	eventually(t, "the handler starts", func() bool { return len(h.told("start")) == 1 })
	if status := h.get(t, "/api/x"); status != http.StatusServiceUnavailable {
		t.Errorf("a request before it is ready: %d", status)
	}
	close(open)
	<-h.Ready()
	if status := h.get(t, "/api/x"); status != http.StatusOK || len(h.told("start")) != 1 {
		t.Errorf("%d after %d starts", status, len(h.told("start")))
	}
}

// gaveUp waits for the end of a host whose handler failed three times.
func gaveUp(t *testing.T, h *host, why string) {
	t.Helper()
	err := <-h.end
	if !errors.Is(err, functionshost.ErrHandlerFailed) || !strings.Contains(err.Error(), why) {
		t.Errorf("Run: %v, want %q", err, why)
	}
	if n := len(h.told("start")); n != 3 {
		t.Errorf("%d starts", n)
	}
}

func neverReady(t *testing.T) {
	// The handler is up long before that time is over, and does not listen.
	h := setup{handler: `,"initializationTimeout":"00:00:01"`, functions: anyRoute(),
		start: func(context.Context, event) order { return order{Deaf: true} }}.launch(t)
	gaveUp(t, h, "did not answer HTTP within 1s")
}

func exitBeforeReady(t *testing.T) {
	h := setup{functions: anyRoute(), start: func(context.Context, event) order { return exit(3) }}.launch(t)
	gaveUp(t, h, "exited with code 3")
}

// exits is a handler that exits with the code in the path /api/exit.
func exits(code int) setup {
	return setup{functions: anyRoute(), request: func(_ context.Context, e event) order {
		if e.Path == "/api/exit" {
			return exit(code)
		}
		return order{}
	}}
}

func exitZero(t *testing.T) {
	h := exits(0).run(t)
	h.get(t, "/api/exit")
	for range 3 {
		if status := h.get(t, "/api/x"); status != http.StatusBadGateway {
			t.Errorf("a call to the dead port: %d", status)
		}
	}
	if n := len(h.told("start")); n != 1 || len(h.end) != 0 {
		t.Errorf("%d starts, ended: %v", n, len(h.end) != 0)
	}
}

// again waits for one more run of the handler.
func again(t *testing.T, h *host) {
	t.Helper()
	runs := h.Stats().HandlerRuns
	h.get(t, "/api/exit")
	eventually(t, "another run", func() bool { return h.Stats().HandlerRuns == runs+1 })
}

func exitRestarts(t *testing.T) {
	h := exits(200).run(t)
	for range 4 {
		again(t, h)
	}
	if status := h.get(t, "/api/x"); status != http.StatusOK {
		t.Error(status)
	}
}

func thirdErrorStops(t *testing.T) {
	h := exits(7).run(t)
	again(t, h)
	again(t, h)
	h.get(t, "/api/exit")
	gaveUp(t, h, "exited with code 7")
	if status := h.get(t, "/api/x"); status != http.StatusServiceUnavailable {
		t.Errorf("after the end: %d", status)
	}
}

func environment(t *testing.T) {
	h := setup{functions: anyRoute(), settings: map[string]string{"MY_SETTING": "of the app"}}.run(t)
	env := map[string]string{}
	for _, pair := range h.told("start")[0].Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	for _, pair := range [][2]string{
		{"FUNCTIONS_CUSTOMHANDLER_PORT", "FUNCTIONS_HTTPWORKER_PORT"}, {"FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "FUNCTIONS_HTTPWORKER_ID"},
	} {
		if env[pair[0]] == "" || env[pair[0]] != env[pair[1]] {
			t.Errorf("%s is %q, %s is %q", pair[0], env[pair[0]], pair[1], env[pair[1]])
		}
	}
	if env["MY_SETTING"] != "of the app" || env["FUNCTIONS_WORKER_RUNTIME"] != "custom" || env["PATH"] == "" || !filepath.IsAbs(env["FUNCTIONS_APP_ROOT_PATH"]) {
		t.Errorf("%q", env)
	}
	for name := range env {
		if strings.HasPrefix(name, "GO") {
			t.Errorf("%s came from the surroundings", name)
		}
	}
	if _, ok := env["WEBSITE_AUTH_ENABLED"]; ok {
		t.Error("Easy Auth seems on")
	}
}

func arguments(t *testing.T) {
	functions := anyRoute()
	functions["sub"] = `{"excluded":true,"bindings":[]}` // makes the folder
	h := setup{functions: functions,
		description: `,"workingDirectory":"sub","arguments":["--port=%FUNCTIONS_CUSTOMHANDLER_PORT%","%NOWHERE%","plain"]`}.run(t)
	start := h.told("start")[0]
	port := ""
	for _, pair := range start.Env {
		if value, ok := strings.CutPrefix(pair, "FUNCTIONS_CUSTOMHANDLER_PORT="); ok {
			port = value
		}
	}
	if want := []string{"--port=" + port, "", "plain"}; !slices.Equal(start.Args, want) {
		t.Errorf("arguments %q, want %q", start.Args, want)
	}
	if filepath.Base(start.Dir) != "sub" {
		t.Errorf("working directory %s", start.Dir)
	}
}

func levels(t *testing.T) {
	h := setup{functions: anyRoute(), start: func(context.Context, event) order {
		return order{Stdout: "hello, error\n", Stderr: "WARNing of it\nit broke\n"}
	}}.run(t)
	for _, want := range []string{"[Information] Host.Function.Console: hello, error\n", "[Warning] Host.Function.Console: WARNing of it\n",
		"[Error] Host.Function.Console: it broke\n"} {
		eventually(t, want, func() bool { return strings.Contains(h.out.String(), want) })
	}
}

func endIsAKill(t *testing.T) {
	died := make(chan struct{})
	h := setup{functions: anyRoute(), request: func(ctx context.Context, e event) order {
		if e.Path == "/api/task" {
			<-ctx.Done()
			close(died)
		}
		return order{}
	}}.run(t)
	answered := h.behind(t, "/api/task")
	eventually(t, "it works", func() bool { return len(h.told("request")) == 1 })
	h.stop()
	if err := <-h.end; err != nil {
		t.Errorf("Run: %v", err)
	}
	<-died
	if status := <-answered; status == http.StatusOK {
		t.Error("the call in flight succeeded")
	}
	if n := len(h.told("signal")); n != 0 {
		t.Errorf("%d signals that could be heard", n)
	}
}

func timeoutKills(t *testing.T) {
	died := make(chan int, 2)
	h := setup{top: `,"functionTimeout":"00:00:02"`, functions: anyRoute(), request: func(ctx context.Context, e event) order {
		if e.Path != "/api/task" {
			return order{}
		}
		<-ctx.Done()
		died <- e.Pid
		return order{}
	}}.run(t)
	first := h.behind(t, "/api/task")
	eventually(t, "it works", func() bool { return len(h.told("request")) == 1 })
	second := h.behind(t, "/api/task")
	if status := <-first; status != http.StatusInternalServerError {
		t.Errorf("the call that timed out: %d", status)
	}
	if status := <-second; status < 500 {
		t.Errorf("the other call: %d", status)
	}
	if pid := <-died; pid != <-died {
		t.Error("the calls were with two processes")
	}
	if status := h.get(t, "/api/x"); status != http.StatusOK || len(h.told("start")) != 2 {
		t.Errorf("afterwards: %d, %d starts", status, len(h.told("start")))
	}
	if calls := h.told("request"); calls[2].Pid == calls[0].Pid {
		t.Error("it is the same process")
	}
}
