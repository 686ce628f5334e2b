//go:build unix

package functionshost

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHandlerThatCannotStart(t *testing.T) {
	a := newApp(t, `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"no-such-program"}}}`,
		map[string]string{"Any": anyRoute})
	if err := a.new(t).Run(t.Context()); err == nil || errors.Is(err, ErrHandlerFailed) {
		t.Fatalf("Run: %v", err)
	}
}

func TestErrorsAreForgotten(t *testing.T) {
	var c errorCount
	now := time.Now()
	for i, test := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {30 * time.Minute, 2}, {30*time.Minute + 1, 1}, {time.Second, 2}, {30 * time.Minute, 3}} {
		now = now.Add(test.after)
		if got := c.add(now); got != test.want {
			t.Errorf("error %d counts %d, want %d", i, got, test.want)
		}
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
