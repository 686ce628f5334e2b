package functionshost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
)

func noServiceBus(string) (*azservicebus.Client, error) { return nil, errNotJSON }

const queueJSON = `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msg","dataType":"binary",
	"queueName":"%Queue%","connection":"Bus"}]}`

func TestFunctionsAreRead(t *testing.T) {
	a := newApp(t, `{"version":"2.0","functionTimeout":"-1","customHandler":{"description":{"defaultExecutablePath":"handler"},
		"enableForwardingHttpRequest":true,"port":7071,"http":{"defaultAuthorizationLevel":"anonymous"}},
		"extensions":{"http":{"routePrefix":""},"serviceBus":{"maxAutoLockRenewalDuration":"01:00:00","maxConcurrentSessions":64,
		"sessionIdleTimeout":"00:00:05","maxConcurrentCalls":3,"autoCompleteMessages":true,"prefetchCount":0}},
		"extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"}}`,
		map[string]string{
			"zeta": queueJSON,
			"Dead": `{"bindings":[{"type":"serviceBusTrigger","name":"msg","queueName":"requests/$deadletterqueue","connection":"Bus"}]}`,
			"Sub": `{"bindings":[{"type":"serviceBusTrigger","name":"msg","topicName":"t","subscriptionName":"s","connection":"Text",
				"isSessionsEnabled":true}]}`,
			"Timer":       `{"bindings":[{"type":"TimerTrigger","direction":"in","name":"timer","schedule":"%Every%","runOnStartup":true}]}`,
			"Api":         `{"bindings":[{"type":"httpTrigger","name":"req","methods":["get","post"],"route":"api/{*path}"},{"type":"http","direction":"out","name":"$return"}]}`,
			"Plain":       `{"bindings":[{"type":"httpTrigger","name":"req","authLevel":"Admin"}]}`,
			"Off":         strings.Replace(anyRoute, `{`, `{"disabled":true,`, 1),
			"OffToo":      anyRoute,
			"Excluded":    strings.Replace(anyRoute, `{`, `{"excluded":true,`, 1),
			"nested/Deep": anyRoute,
		})
	write(t, filepath.Join(a.root, "handler"), "")
	a.cfg.ServiceBus = noServiceBus
	a.cfg.Settings["Queue"], a.cfg.Settings["Every"] = "requests", "0 */5 * * * *"
	a.cfg.Settings["Bus__fullyQualifiedNamespace"] = "ns.example"
	a.cfg.Settings["AzureWebJobsText"] = "SharedAccessKeyName=a;Endpoint=sb://127.0.0.1:5672/;SharedAccessKey=b="
	a.cfg.Settings["AzureWebJobs.OffToo.Disabled"] = "1"
	h := a.new(t)
	want := []Function{
		{Name: "Api", Trigger: "httpTrigger", Route: "api/{*path}", Methods: []string{"GET", "POST"}, AuthLevel: "function"},
		{Name: "Dead", Trigger: "serviceBusTrigger", Source: "requests/$DeadLetterQueue"},
		{Name: "Off", Trigger: "httpTrigger", Route: "{*path}", AuthLevel: "anonymous", Disabled: true},
		{Name: "OffToo", Trigger: "httpTrigger", Route: "{*path}", AuthLevel: "anonymous", Disabled: true},
		{Name: "Plain", Trigger: "httpTrigger", Route: "Plain", AuthLevel: "admin"},
		{Name: "Sub", Trigger: "serviceBusTrigger", Source: "t/Subscriptions/s"},
		{Name: "Timer", Trigger: "timerTrigger", Source: "0 */5 * * * *"},
		{Name: "zeta", Trigger: "serviceBusTrigger", Source: "requests"},
	}
	if diff := cmp.Diff(want, h.Functions()); diff != "" {
		t.Errorf("functions (-want +got):\n%s", diff)
	}
	queue := serviceBusOptions{maxAutoLockRenewal: time.Hour, maxConcurrentCalls: 3, maxConcurrentSessions: 64, sessionIdleTimeout: 5 * time.Second}
	if got := h.find("SUB").queue; got.options != queue || !got.sessions || got.namespace != "127.0.0.1:5672" {
		t.Errorf("subscription trigger %+v", got)
	}
	if got := h.find("zeta").queue; got.sessions || got.namespace != "ns.example" || got.connection != "Bus" {
		t.Errorf("queue trigger %+v", got)
	}
	if h.find("Plain").http.proxied || !h.find("Api").http.proxied {
		t.Error("only a function with one http output is forwarded")
	}
	if o := h.options; o.executable != filepath.Join(a.root, "handler") || o.port != 7071 || o.functionTimeout != 0 || o.streaming || !o.forwarding {
		t.Errorf("options %+v", o)
	}
}

func TestHostDefaults(t *testing.T) {
	h := newApp(t, plainHost, map[string]string{"Any": anyRoute}).new(t)
	o := h.options
	if o.functionTimeout != 30*time.Minute || o.initTimeout != 30*time.Second || o.routePrefix != "api" || o.port != 0 || !o.streaming ||
		o.serviceBus.maxAutoLockRenewal != 5*time.Minute || o.serviceBus.maxConcurrentSessions != 8 || o.workingDir != o.root {
		t.Errorf("defaults %+v", o)
	}
}

func TestAllFaultsAreListed(t *testing.T) {
	a := newApp(t, `{"version":"1.0","functionTimeout":"soon","customHandler":{"description":{},"port":70000,
		"initializationTimeout":"-00:00:01","http":{"defaultAuthorizationLevel":"open","routes":[{"route":"x"}]}},
		"extensions":{"serviceBus":{"maxConcurrentCalls":0,"maxConcurrentCallsPerSession":2,"autoCompleteMessages":false,"sessionIdleTimeout":"x"}}}`,
		map[string]string{
			"1bad":    anyRoute,
			"Broken":  `{`,
			"Two":     `{"bindings":[{"type":"timerTrigger","name":"a","schedule":"00:01:00"},{"type":"timerTrigger","name":"b","schedule":"00:01:00"}]}`,
			"None":    `{"bindings":[]}`,
			"Blob":    `{"bindings":[{"type":"blobTrigger","name":"a"}]}`,
			"Out":     `{"bindings":[{"type":"timerTrigger","name":"a","schedule":"never"},{"type":"serviceBus","direction":"out","name":"o"}]}`,
			"Queue":   queueJSON,
			"Many":    `{"bindings":[{"type":"serviceBusTrigger","name":"m","queueName":"q","cardinality":"many","dataType":"stream","connection":"Nowhere"}]}`,
			"DeadSes": `{"bindings":[{"type":"serviceBusTrigger","name":"m","queueName":"q/$DeadLetterQueue","isSessionsEnabled":true,"connection":"Nowhere"}]}`,
			"Route":   `{"bindings":[{"type":"httpTrigger","direction":"out","name":"_","route":"v{n}","authLevel":"user","methods":["G T"]}]}`,
			"Twin":    anyRoute,
			"twin":    anyRoute,
		})
	_, err := New(a.cfg)
	if err == nil {
		t.Fatal("no error")
	}
	if _, sameFolder := os.Stat(filepath.Join(a.root, "TWIN")); sameFolder != nil && !strings.Contains(err.Error(), "Twin and twin") {
		t.Error("the error does not name functions that differ in case alone")
	}
	for _, want := range []string{
		`host.json: version is "1.0"`, "host.json: functionTimeout", "defaultExecutablePath is missing", "port is 70000",
		"initializationTimeout", "defaultAuthorizationLevel", "http.routes cannot", "maxConcurrentCalls is 0",
		"maxConcurrentCallsPerSession", "autoCompleteMessages", "sessionIdleTimeout",
		`"1bad" is not a valid function name`, "Broken/function.json: ", "Two/function.json: 2 trigger bindings", "None/function.json: 0 trigger",
		`trigger "blobTrigger"`, `"never" is not a time span`, `type "serviceBus", direction "out"`, "setting %Queue% is missing",
		`cardinality "many"`, `dataType "stream"`, "neither setting Nowhere nor Nowhere__fullyQualifiedNamespace exists",
		"a dead-letter queue has no sessions", "a trigger's direction is in", `"_" is not a valid binding name`,
		`segment "v{n}"`, `authLevel "user"`, `method "G T"`, "Config.ServiceBus is nil",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestUnusableApps(t *testing.T) {
	a := newApp(t, plainHost, nil)
	if _, err := New(a.cfg); err == nil || !strings.Contains(err.Error(), "no functions") {
		t.Errorf("an app without functions: %v", err)
	}
	if err := os.Remove(filepath.Join(a.root, "host.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(a.cfg); err == nil || !strings.Contains(err.Error(), "host.json") {
		t.Errorf("an app without host.json: %v", err)
	}
}
