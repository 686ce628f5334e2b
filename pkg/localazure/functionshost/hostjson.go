package functionshost

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// maxConfigFile bounds host.json and each function.json, in bytes.
const maxConfigFile = 1 << 20

// hostOptions is host.json, checked and with the host's defaults filled in.
type hostOptions struct {
	root            string // absolute path of the app
	executable      string
	arguments       []string
	workingDir      string
	port            int           // 0: a free one at each start
	initTimeout     time.Duration // how long the handler may take to answer
	functionTimeout time.Duration // 0: none
	forwarding      bool          // HTTP functions get the request itself ...
	streaming       bool          // ... as a stream, instead of buffered
	routePrefix     string        // without slashes at the ends
	serviceBus      serviceBusOptions
}

// serviceBusOptions are those of extensions.serviceBus that bear on single
// messages; the defaults are those of ServiceBusOptions in
// Microsoft.Azure.WebJobs.Extensions.ServiceBus.
type serviceBusOptions struct {
	maxAutoLockRenewal    time.Duration
	maxConcurrentCalls    int
	maxConcurrentSessions int
	sessionIdleTimeout    time.Duration
}

// hostFile is host.json as it is written. Names are compared in any case, as
// .NET configuration does, and what it does not list is ignored, as the host
// ignores it.
type hostFile struct {
	Version         string  `json:"version"`
	FunctionTimeout *string `json:"functionTimeout"`
	CustomHandler   *struct {
		Description *struct {
			DefaultExecutablePath string   `json:"defaultExecutablePath"`
			WorkingDirectory      string   `json:"workingDirectory"`
			Arguments             []string `json:"arguments"`
		} `json:"description"`
		EnableProxying        bool    `json:"enableProxyingHttpRequest"`
		EnableForwarding      bool    `json:"enableForwardingHttpRequest"`
		InitializationTimeout *string `json:"initializationTimeout"`
		Port                  *int    `json:"port"`
		HTTP                  struct {
			DefaultAuthorizationLevel string            `json:"defaultAuthorizationLevel"`
			Routes                    []json.RawMessage `json:"routes"`
		} `json:"http"`
	} `json:"customHandler"`
	Extensions struct {
		HTTP struct {
			RoutePrefix *string `json:"routePrefix"`
		} `json:"http"`
		ServiceBus struct {
			AutoCompleteMessages         *bool   `json:"autoCompleteMessages"`
			MaxAutoLockRenewalDuration   *string `json:"maxAutoLockRenewalDuration"`
			MaxConcurrentCalls           *int    `json:"maxConcurrentCalls"`
			MaxConcurrentSessions        *int    `json:"maxConcurrentSessions"`
			MaxConcurrentCallsPerSession *int    `json:"maxConcurrentCallsPerSession"`
			SessionIdleTimeout           *string `json:"sessionIdleTimeout"`
		} `json:"serviceBus"`
	} `json:"extensions"`
}

// readHostJSON reads root's host.json. Where nothing more can be said about the
// app, the options come back without a root.
func readHostJSON(root string) (hostOptions, []error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return hostOptions{}, []error{err}
	}
	var file hostFile
	if err := readJSON(filepath.Join(abs, "host.json"), &file); err != nil {
		return hostOptions{}, []error{fmt.Errorf("host.json: %w", err)}
	}
	c := checker{where: "host.json"}
	options := hostOptions{root: abs, routePrefix: "api"}
	if file.Version != "2.0" {
		c.faultf("version is %q, must be \"2.0\"", file.Version)
	}
	// The default is that of Flex Consumption; "-1" is the documented spelling
	// of no limit.
	options.functionTimeout = 30 * time.Minute
	if t := file.FunctionTimeout; t != nil && strings.TrimSpace(*t) == "-1" {
		options.functionTimeout = 0
	} else {
		c.span("functionTimeout", t, &options.functionTimeout)
	}
	c.customHandler(file, &options)
	if p := file.Extensions.HTTP.RoutePrefix; p != nil {
		options.routePrefix = strings.Trim(*p, "/")
	}
	c.serviceBus(file, &options.serviceBus)
	return options, c.faults
}

func (c *checker) customHandler(file hostFile, options *hostOptions) {
	handler := file.CustomHandler
	if handler == nil || handler.Description == nil {
		c.faultf("customHandler.description is missing")
		return
	}
	description := handler.Description
	if description.DefaultExecutablePath == "" {
		c.faultf("customHandler.description.defaultExecutablePath is missing")
	}
	options.executable = description.DefaultExecutablePath
	// Only a file below the app root makes the path relative to it; else it is
	// taken for a program on the PATH (HttpWorkerDescription).
	if !filepath.IsAbs(options.executable) {
		inApp := filepath.Join(options.root, filepath.FromSlash(options.executable))
		if info, err := os.Stat(inApp); err == nil && !info.IsDir() {
			options.executable = inApp
		}
	}
	options.arguments = description.Arguments
	options.workingDir = filepath.FromSlash(description.WorkingDirectory)
	if !filepath.IsAbs(options.workingDir) {
		options.workingDir = filepath.Join(options.root, options.workingDir)
	}
	options.initTimeout = 30 * time.Second
	c.span("customHandler.initializationTimeout", handler.InitializationTimeout, &options.initTimeout)
	if p := handler.Port; p != nil {
		options.port = *p
		if *p < 1 || *p > 65535 {
			c.faultf("customHandler.port is %d", *p)
		}
	}
	options.streaming = handler.EnableProxying
	options.forwarding = handler.EnableProxying || handler.EnableForwarding
	// The default level holds for http.routes alone (HttpWorkerOptionsSetup), so
	// with function.json files it is checked and has no effect.
	if level := handler.HTTP.DefaultAuthorizationLevel; level != "" {
		if _, ok := authLevelNamed(level); !ok {
			c.faultf("customHandler.http.defaultAuthorizationLevel is %q", level)
		}
	}
	if len(handler.HTTP.Routes) > 0 {
		c.faultf("customHandler.http.routes cannot be used together with function.json files")
	}
}

func (c *checker) serviceBus(file hostFile, options *serviceBusOptions) {
	in := file.Extensions.ServiceBus
	const prefix = "extensions.serviceBus."
	*options = serviceBusOptions{
		maxAutoLockRenewal:    5 * time.Minute,
		maxConcurrentCalls:    16 * runtime.NumCPU(),
		maxConcurrentSessions: 8,
		sessionIdleTimeout:    time.Minute, // unset: the client's try timeout
	}
	c.span(prefix+"maxAutoLockRenewalDuration", in.MaxAutoLockRenewalDuration, &options.maxAutoLockRenewal)
	c.span(prefix+"sessionIdleTimeout", in.SessionIdleTimeout, &options.sessionIdleTimeout)
	c.count(prefix+"maxConcurrentCalls", in.MaxConcurrentCalls, &options.maxConcurrentCalls)
	c.count(prefix+"maxConcurrentSessions", in.MaxConcurrentSessions, &options.maxConcurrentSessions)
	one := 1
	c.count(prefix+"maxConcurrentCallsPerSession", in.MaxConcurrentCallsPerSession, &one)
	if one > 1 {
		c.faultf("%smaxConcurrentCallsPerSession above 1 is not supported here", prefix)
	}
	if in.AutoCompleteMessages != nil && !*in.AutoCompleteMessages {
		c.faultf("%sautoCompleteMessages is false, but a custom handler cannot settle messages", prefix)
	}
}

// checker gathers the faults of one file.
type checker struct {
	where  string
	faults []error
}

func (c *checker) faultf(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(c.where+": "+format, args...))
}

// span sets into from text, if there is any; it must be positive.
func (c *checker) span(name string, text *string, into *time.Duration) {
	if text == nil {
		return
	}
	d, err := parseTimeSpan(*text)
	switch {
	case err != nil:
		c.faultf("%s: %w", name, err)
	case d <= 0:
		c.faultf("%s is %q, must be positive", name, *text)
	default:
		*into = d
	}
}

// count sets into from n, if there is any; it must be positive.
func (c *checker) count(name string, n *int, into *int) {
	switch {
	case n == nil:
	case *n < 1:
		c.faultf("%s is %d, must be positive", name, *n)
	default:
		*into = *n
	}
}

// readJSON decodes one JSON document from a file of bounded size.
func readJSON(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxConfigFile {
		return errors.New("the file is larger than 1 MiB")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
