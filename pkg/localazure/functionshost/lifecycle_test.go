//go:build unix

package functionshost

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestHandlerEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_SURROUNDINGS", "x")
	a := newApp(t, `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":EXE,
		"workingDirectory":"sub","arguments":["--port=%FUNCTIONS_CUSTOMHANDLER_PORT%","%NOWHERE%","plain"]},
		"enableForwardingHttpRequest":true}}`, map[string]string{"Any": anyRoute})
	write(t, filepath.Join(a.root, "sub", "file"), "")
	a.cfg.Settings["MY_SETTING"] = "of the app"
	a.cfg.Settings["WEBSITE_AUTH_ENABLED"] = "True" // not for a setting to say
	h := a.start(t)
	seen := h.echo(t, "GET", "/api/x", "", nil)

	env := map[string]string{}
	for _, pair := range seen.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	port := env["FUNCTIONS_CUSTOMHANDLER_PORT"]
	if port == "" || env["FUNCTIONS_HTTPWORKER_PORT"] != port {
		t.Errorf("ports: %q and %q", port, env["FUNCTIONS_HTTPWORKER_PORT"])
	}
	if env["FUNCTIONS_APP_ROOT_PATH"] != a.root || env["MY_SETTING"] != "of the app" || env["PATH"] == "" {
		t.Errorf("environment: %q", seen.Env)
	}
	for _, name := range []string{"SECRET_OF_THE_SURROUNDINGS", "WEBSITE_AUTH_ENABLED"} {
		if _, ok := env[name]; ok {
			t.Errorf("the handler has %s", name)
		}
	}
	if want := []string{"--port=" + port, "", "plain"}; !slices.Equal(seen.Args, want) {
		t.Errorf("arguments %q, want %q", seen.Args, want)
	}
	if dir, err := filepath.EvalSymlinks(filepath.Join(a.root, "sub")); err != nil || seen.Dir != dir {
		t.Errorf("working directory %q", seen.Dir)
	}
}

func TestHandlerOutputLevels(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	a.start(t)
	for _, want := range []string{
		"[Information] Host.Function.Console: handler says hello\n",
		"[Warning] Host.Function.Console: Warning: something odd\n",
		"[Error] Host.Function.Console: something broke\n",
	} {
		eventually(t, want, func() bool { return strings.Contains(a.out.String(), want) })
	}
}

func TestExitCodes(t *testing.T) {
	t.Run("0 leaves a dead port", func(t *testing.T) {
		h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
		h.do(t, "GET", "/api/exit/0", "", nil)
		for range 3 {
			if response, _ := h.do(t, "GET", "/api/x", "", nil); response.StatusCode != http.StatusBadGateway {
				t.Fatalf("a call after exit 0: %s", response.Status)
			}
		}
		select {
		case err := <-h.ended:
			t.Fatalf("the host ended: %v", err)
		default:
		}
	})
	t.Run("200 restarts without end", func(t *testing.T) {
		h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
		last := h.echo(t, "GET", "/api/x", "", nil).Pid
		for range errorLimit + 1 {
			h.do(t, "GET", "/api/exit/200", "", nil)
			pid := last
			eventually(t, "a new process", func() bool {
				response, _ := h.do(t, "GET", "/api/x", "", nil)
				if response.StatusCode != http.StatusOK {
					return false
				}
				pid = h.echo(t, "GET", "/api/x", "", nil).Pid
				return pid != last
			})
			last = pid
		}
	})
	t.Run("others stop the host at the third", func(t *testing.T) {
		h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
		last := 0
		for i := range errorLimit {
			eventually(t, "a new process", func() bool {
				response, _ := h.do(t, "GET", "/api/x", "", nil)
				return response.StatusCode == http.StatusOK && h.echo(t, "GET", "/api/x", "", nil).Pid != last
			})
			last = h.echo(t, "GET", "/api/x", "", nil).Pid
			h.do(t, "GET", "/api/exit/"+strconv.Itoa(7+i), "", nil)
		}
		err := <-h.ended
		if !errors.Is(err, ErrHandlerFailed) || !strings.Contains(err.Error(), "code 9") {
			t.Fatalf("Run: %v", err)
		}
	})
}

func TestHandlerThatNeverAnswers(t *testing.T) {
	for mode, want := range map[string]string{
		"exit=3": "exited with code 3",
		"exit=0": "did not answer HTTP within 200ms",
		"sleep":  "did not answer HTTP within 200ms",
	} {
		host := plainHost
		if mode != "exit=3" {
			host = strings.Replace(host, `"enable`, `"initializationTimeout":"00:00:00.2","enable`, 1)
		}
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			a := newApp(t, host, map[string]string{"Any": anyRoute})
			a.cfg.Settings[handlerMode] = mode
			h := a.new(t)
			err := h.Run(t.Context())
			if !errors.Is(err, ErrHandlerFailed) || !strings.Contains(err.Error(), want) {
				t.Fatalf("Run: %v", err)
			}
			select {
			case <-h.Ready():
				t.Fatal("it was ready")
			default:
			}
			if n := strings.Count(a.out.String(), "[Error] Host: "); n != errorLimit {
				t.Errorf("%d attempts:\n%s", n, a.out)
			}
		})
	}
}

func TestHandlerThatCannotStart(t *testing.T) {
	a := newApp(t, `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"no-such-program"}}}`,
		map[string]string{"Any": anyRoute})
	if err := a.new(t).Run(t.Context()); err == nil || errors.Is(err, ErrHandlerFailed) {
		t.Fatalf("Run: %v", err)
	}
}

func TestRunTwice(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
	if err := h.Run(t.Context()); !errors.Is(err, errRunTwice) {
		t.Fatalf("second Run: %v", err)
	}
}

// alive tells whether a process runs; one that is dead but not reaped does not.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil && !isZombie(pid) }

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

func TestNoProcessIsLeft(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
	pid := h.echo(t, "GET", "/api/x", "", nil).Pid
	_, text := h.do(t, "GET", "/api/spawn", "", nil)
	grandchild, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) || !alive(grandchild) {
		t.Fatal("the handler or its child does not run")
	}
	h.cancel()
	if err := <-h.ended; err != nil {
		t.Fatalf("Run: %v", err)
	}
	if alive(pid) {
		t.Error("the handler survived Run")
	}
	eventually(t, "the handler's child is gone", func() bool { return !alive(grandchild) })
}

func TestHandlerDiesWithTheHost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills a child when its parent is killed")
	}
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	host := exec.CommandContext(t.Context(), os.Args[0], a.root)
	host.Env = []string{handlerMode + "=host"}
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil || pid == 0 || !alive(pid) {
		t.Fatalf("the handler's id is %d, %v", pid, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // it was killed
	eventually(t, "the handler is gone", func() bool { return !alive(pid) })
}

func TestKilledHandlerIsStartedAgain(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{"Any": anyRoute})
	h := a.start(t)
	if err := syscall.Kill(h.echo(t, "GET", "/api/x", "", nil).Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the exit code is logged", func() bool { return strings.Contains(a.out.String(), "exited with code 137") })
	eventually(t, "the handler answers again", func() bool {
		response, _ := h.do(t, "GET", "/api/x", "", nil)
		return response.StatusCode == http.StatusOK
	})
}

func TestTimerReachesTheHandler(t *testing.T) {
	a := newApp(t, plainHost, map[string]string{
		"Tick": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"00:00:00.1"}]}`,
		"Off":  `{"disabled":true,"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"00:00:00.1"}]}`,
	})
	a.start(t)
	eventually(t, "two invocations", func() bool {
		return strings.Count(a.out.String(), `invoked /Tick {"Data":{"timer":{"IsPastDue":false,`) >= 2
	})
	if strings.Contains(a.out.String(), "invoked /Off") {
		t.Error("a disabled timer fired")
	}
}

func TestAnswerThatBreaksOff(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).start(t)
	request, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/half", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil || string(text) != "the first half" {
		t.Errorf("read %q, %v: the caller cannot tell that it is not all", text, err)
	}
}

func TestFunctionTimeoutKillsTheHandler(t *testing.T) {
	host := strings.Replace(plainHost, `"version"`, `"functionTimeout":"00:00:01.5","version"`, 1)
	h := newApp(t, host, map[string]string{"Any": anyRoute}).start(t)
	before := h.echo(t, "GET", "/api/x", "", nil).Pid
	response, _ := h.do(t, "GET", "/api/hang", "", nil)
	if response.StatusCode != http.StatusInternalServerError {
		t.Fatalf("status %s", response.Status)
	}
	if after := h.echo(t, "GET", "/api/x", "", nil).Pid; after == before {
		t.Error("the handler was not started again")
	}
	if alive(before) {
		t.Error("the old process is alive")
	}
}
