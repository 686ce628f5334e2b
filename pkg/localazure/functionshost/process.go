package functionshost

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// child is one run of the handler process.
type child struct {
	address string // of its HTTP server, host:port
	pid     int
	done    chan struct{} // closed when it and its output have ended
	code    int           // exit code; set before done is closed
}

// startChild starts the handler. It is reaped, and what is left of its process
// group is killed, without further ado.
func startChild(options hostOptions, environment []string, c *console) (*child, error) {
	port := options.port
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(options.executable)
	cmd.Dir = options.workingDir
	portText, workerID := strconv.Itoa(port), uuid.NewString()
	cmd.Env = append(slices.Clone(environment),
		"FUNCTIONS_CUSTOMHANDLER_PORT="+portText,
		"FUNCTIONS_HTTPWORKER_PORT="+portText,
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+workerID,
		"FUNCTIONS_HTTPWORKER_ID="+workerID)
	for _, argument := range options.arguments {
		cmd.Args = append(cmd.Args, expandArgument(argument, cmd.Env))
	}
	cmd.SysProcAttr = childAttributes()
	stdout, stderr := c.stdout(), c.stderr()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A grandchild that holds the pipes open must not keep Wait from returning.
	cmd.WaitDelay = time.Second

	run := &child{address: net.JoinHostPort("127.0.0.1", portText), done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that
		// started the child ends, so that thread is kept until the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			run.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		waitErr := cmd.Wait()
		killGroup(run.pid)
		stdout.flush()
		stderr.flush()
		run.code = exitCode(cmd.ProcessState, waitErr)
		close(run.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting the handler: %w", err)
	}
	return run, nil
}

// kill ends the process group at once, as the host ends its handler, and waits
// until it is gone. One that ended before is left alone: its id may be somebody
// else's by now.
func (c *child) kill() {
	select {
	case <-c.done:
	default:
		killGroup(c.pid)
		<-c.done
	}
}

// exitCode is .NET's Process.ExitCode: 128 + n for an end by signal n.
func exitCode(state *os.ProcessState, waitErr error) int {
	if state == nil {
		return -1
	}
	if code := state.ExitCode(); code >= 0 {
		return code
	}
	if n, ok := endSignal(state); ok {
		return 128 + n
	}
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// freePort finds a port nobody listens on. Somebody may take it before the
// handler does; then the handler fails and gets another at its next start.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// expandArgument puts the handler's own environment in the place of %NAME%;
// unknown names vanish (DefaultWorkerProcessFactory).
func expandArgument(argument string, environment []string) string {
	return percentName.ReplaceAllStringFunc(argument, func(found string) string {
		name := strings.Trim(found, "%")
		for i := len(environment) - 1; i >= 0; i-- {
			if key, value, _ := strings.Cut(environment[i], "="); key == name {
				return value
			}
		}
		return ""
	})
}

// inherited are the variables that the handler gets from the surroundings of
// the host, as it would from the platform's. Everything else comes from the
// settings, so that nothing works here that would not in Azure.
var inherited = []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "TMP", "TEMP", "SystemRoot"}

// handlerEnvironment is the handler's environment except for its port.
func handlerEnvironment(cfg Config, options hostOptions) []string {
	variables := map[string]string{}
	// A Cmd without Env reports the environment of this process.
	for _, pair := range new(exec.Cmd).Environ() {
		if key, value, _ := strings.Cut(pair, "="); slices.Contains(inherited, key) {
			variables[key] = value
		}
	}
	for key, value := range cfg.Settings {
		variables[key] = value
	}
	// What the platform says of itself is not for a setting to say.
	delete(variables, "WEBSITE_AUTH_ENABLED")
	if cfg.Verify != nil {
		variables["WEBSITE_AUTH_ENABLED"] = "True"
	}
	variables["FUNCTIONS_APP_ROOT_PATH"] = options.root
	if _, ok := variables["FUNCTIONS_WORKER_RUNTIME"]; !ok {
		variables["FUNCTIONS_WORKER_RUNTIME"] = "custom"
	}
	environment := make([]string, 0, len(variables))
	for key, value := range variables {
		environment = append(environment, key+"="+value)
	}
	slices.Sort(environment)
	return environment
}
