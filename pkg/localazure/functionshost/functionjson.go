package functionshost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// function is one function with its one trigger: exactly one of queue, timer
// and http is set.
type function struct {
	Function
	binding  string // the trigger binding's name
	dataType string // of the trigger, in lower case; "" if not given
	queue    *queueTrigger
	timer    *timerTrigger
	http     *httpTrigger
}

// queueTrigger is a serviceBusTrigger.
type queueTrigger struct {
	entity     entity
	connection string
	namespace  string // fully qualified, where the settings tell it
	sessions   bool
	options    serviceBusOptions
}

// timerTrigger is a timerTrigger.
type timerTrigger struct {
	schedule     schedule
	text         string
	useMonitor   bool
	runOnStartup bool
}

// httpTrigger is an httpTrigger.
type httpTrigger struct {
	template routeTemplate
	level    authLevel
	proxied  bool   // the handler gets the request itself
	output   string // name of the http output binding; "" if there is none
}

// bindingFile is one entry of function.json's "bindings", with the properties
// of all the supported triggers.
type bindingFile struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Direction string `json:"direction"`
	DataType  string `json:"dataType"`

	QueueName        string `json:"queueName"`
	TopicName        string `json:"topicName"`
	SubscriptionName string `json:"subscriptionName"`
	Connection       string `json:"connection"`
	Cardinality      string `json:"cardinality"`
	Sessions         bool   `json:"isSessionsEnabled"`
	AutoComplete     *bool  `json:"autoCompleteMessages"`

	Schedule     string `json:"schedule"`
	RunOnStartup bool   `json:"runOnStartup"`
	UseMonitor   *bool  `json:"useMonitor"`

	Route     *string  `json:"route"`
	Methods   []string `json:"methods"`
	AuthLevel string   `json:"authLevel"`
}

type functionFile struct {
	Bindings []bindingFile   `json:"bindings"`
	Disabled json.RawMessage `json:"disabled"`
	Excluded bool            `json:"excluded"`
}

var (
	// Utility.FunctionNameValidationRegex and BindingNameValidationRegex of the host.
	functionName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_\-]{0,127}$`)
	bindingName  = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]{0,127}$`)
	percentName  = regexp.MustCompile(`%([^%]+)%`)
)

// readFunctions finds the functions: folders directly below the app root that
// hold a function.json. Deeper ones are as invisible here as to the host.
func readFunctions(options hostOptions, settings map[string]string) ([]*function, []error) {
	entries, err := os.ReadDir(options.root)
	if err != nil {
		return nil, []error{err}
	}
	var functions []*function
	var faults []error
	for _, entry := range entries {
		name := entry.Name()
		var file functionFile
		err := readJSON(filepath.Join(options.root, name, "function.json"), &file)
		if errors.Is(err, fs.ErrNotExist) || isNotFolder(err) {
			continue
		}
		c := checker{where: name + "/function.json"}
		switch {
		case err != nil:
			c.faultf("%w", err)
		case file.Excluded:
		default:
			f := c.function(name, file, options, settings)
			functions = append(functions, f)
		}
		faults = append(faults, c.faults...)
	}
	slices.SortFunc(functions, func(a, b *function) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	for i := range max(0, len(functions)-1) {
		if strings.EqualFold(functions[i].Name, functions[i+1].Name) {
			faults = append(faults, fmt.Errorf("%s and %s: names that differ only in case",
				functions[i].Name, functions[i+1].Name))
		}
	}
	if len(functions) == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("no functions: none of its direct sub-folders holds a function.json"))
	}
	return functions, faults
}

// isNotFolder tells that a path ran through a file as if it were a folder,
// which is what looking for handler/function.json beside a handler binary does.
func isNotFolder(err error) bool {
	var pathErr *fs.PathError
	return errors.As(err, &pathErr) && isENOTDIR(pathErr.Err)
}

// function checks one function.json. The result may be incomplete where there
// are faults.
func (c *checker) function(name string, file functionFile, options hostOptions, settings map[string]string) *function {
	f := &function{Function: Function{Name: name}}
	if !functionName.MatchString(name) || strings.EqualFold(name, "host") {
		c.faultf("%q is not a valid function name", name)
	}
	f.Disabled = isDisabled(name, file.Disabled, settings)
	var triggers, outputs []bindingFile
	for _, b := range file.Bindings {
		c.expand(&b, settings)
		switch {
		case strings.HasSuffix(strings.ToLower(b.Type), "trigger"):
			triggers = append(triggers, b)
		case strings.EqualFold(b.Type, "http") && strings.EqualFold(b.Direction, "out"):
			outputs = append(outputs, b)
		default:
			c.faultf("binding %q: type %q, direction %q is not supported here", b.Name, b.Type, b.Direction)
		}
	}
	if len(triggers) != 1 {
		c.faultf("%d trigger bindings, must be one", len(triggers))
		return f
	}
	trigger := triggers[0]
	if !bindingName.MatchString(trigger.Name) {
		c.faultf("%q is not a valid binding name", trigger.Name)
	}
	if trigger.Direction != "" && !strings.EqualFold(trigger.Direction, "in") {
		c.faultf("binding %q: a trigger's direction is in, not %q", trigger.Name, trigger.Direction)
	}
	f.binding, f.dataType = trigger.Name, strings.ToLower(trigger.DataType)
	if !slices.Contains([]string{"", "string", "binary"}, f.dataType) {
		c.faultf("binding %q: dataType %q is not supported here", trigger.Name, trigger.DataType)
	}
	switch strings.ToLower(trigger.Type) {
	case "servicebustrigger":
		f.Trigger = "serviceBusTrigger"
		f.queue = c.queueTrigger(trigger, options, settings)
		f.Source = f.queue.entity.String()
	case "timertrigger":
		f.Trigger, f.Source = "timerTrigger", trigger.Schedule
		f.timer = c.timerTrigger(trigger)
	case "httptrigger":
		f.Trigger = "httpTrigger"
		c.httpTrigger(f, trigger, outputs, options)
	default:
		c.faultf("trigger %q is not supported here", trigger.Type)
	}
	if f.http == nil && len(outputs) > 0 {
		c.faultf("an http output without an httpTrigger")
	}
	return f
}

// expand puts settings in the place of %Name%.
func (c *checker) expand(b *bindingFile, settings map[string]string) {
	fields := []*string{&b.QueueName, &b.TopicName, &b.SubscriptionName, &b.Connection, &b.Schedule}
	if b.Route != nil {
		fields = append(fields, b.Route)
	}
	for _, field := range fields {
		*field = percentName.ReplaceAllStringFunc(*field, func(found string) string {
			name := strings.Trim(found, "%")
			value, ok := lookup(settings, name)
			if !ok {
				c.faultf("binding %q: setting %s is missing", b.Name, found)
			}
			return value
		})
	}
}

func (c *checker) queueTrigger(b bindingFile, options hostOptions, settings map[string]string) *queueTrigger {
	q := &queueTrigger{connection: b.Connection, sessions: b.Sessions, options: options.serviceBus}
	q.entity = entity{queue: b.QueueName, topic: b.TopicName, subscription: b.SubscriptionName}
	switch {
	case b.QueueName != "" && b.TopicName == "" && b.SubscriptionName == "":
		q.entity.queue, q.entity.dead = cutDeadLetter(b.QueueName)
	case b.QueueName == "" && b.TopicName != "" && b.SubscriptionName != "":
		q.entity.subscription, q.entity.dead = cutDeadLetter(b.SubscriptionName)
	default:
		c.faultf("binding %q: needs a queueName, or a topicName with a subscriptionName", b.Name)
	}
	if q.sessions && q.entity.dead {
		c.faultf("binding %q: a dead-letter queue has no sessions", b.Name)
	}
	if b.Cardinality != "" && !strings.EqualFold(b.Cardinality, "one") {
		c.faultf("binding %q: cardinality %q is not supported here, only one", b.Name, b.Cardinality)
	}
	if b.AutoComplete != nil && !*b.AutoComplete {
		c.faultf("binding %q: autoCompleteMessages is false, but a custom handler cannot settle messages", b.Name)
	}
	if q.connection == "" {
		q.connection = "ServiceBus" // found as AzureWebJobsServiceBus
	}
	namespace, ok := namespaceOf(q.connection, settings)
	if !ok {
		c.faultf("binding %q: connection %q: neither setting %[2]s nor %[2]s__fullyQualifiedNamespace exists", b.Name, q.connection)
	}
	q.namespace = namespace
	return q
}

func (c *checker) timerTrigger(b bindingFile) *timerTrigger {
	t := &timerTrigger{text: b.Schedule, runOnStartup: b.RunOnStartup}
	s, err := parseSchedule(b.Schedule)
	if err != nil {
		c.faultf("binding %q: %w", b.Name, err)
		return t
	}
	t.schedule = s
	// Status is kept only for schedules slower than once a minute
	// (TimerTriggerAttributeBindingProvider).
	t.useMonitor = !subMinute(s) && (b.UseMonitor == nil || *b.UseMonitor)
	return t
}

func (c *checker) httpTrigger(f *function, b bindingFile, outputs []bindingFile, options hostOptions) {
	h := &httpTrigger{}
	f.http = h
	if len(outputs) > 1 {
		c.faultf("%d http outputs, at most one", len(outputs))
	}
	if len(outputs) == 1 {
		h.output = outputs[0].Name
		if !bindingName.MatchString(h.output) && h.output != "$return" {
			c.faultf("%q is not a valid binding name", h.output)
		}
	}
	h.proxied = options.forwarding && len(outputs) == 1
	level, ok := authLevelNamed(b.AuthLevel)
	if b.AuthLevel == "" {
		level, ok = levelFunction, true
	}
	if !ok {
		c.faultf("binding %q: authLevel %q", b.Name, b.AuthLevel)
	}
	h.level, f.AuthLevel = level, level.String()
	for _, m := range b.Methods {
		if !httpMethod.MatchString(m) {
			c.faultf("binding %q: method %q", b.Name, m)
		}
		f.Methods = append(f.Methods, strings.ToUpper(m))
	}
	path := f.Name
	if b.Route != nil {
		path = *b.Route
	}
	f.Route = strings.Trim(options.routePrefix+"/"+strings.Trim(path, "/"), "/")
	template, err := parseRoute(f.Route)
	if err != nil {
		c.faultf("binding %q: route %q: %w", b.Name, f.Route, err)
	}
	h.template = template
}

var httpMethod = regexp.MustCompile(`^[A-Za-z]{1,32}$`)

// isDisabled reads "disabled", which is true or the name of a setting, and the
// setting AzureWebJobs.<Name>.Disabled, which wins.
func isDisabled(name string, raw json.RawMessage, settings map[string]string) bool {
	for _, setting := range []string{"AzureWebJobs." + name + ".Disabled", "AzureWebJobs_" + name + "_Disabled"} {
		if value, ok := lookup(settings, setting); ok {
			return isTrue(value)
		}
	}
	var on bool
	if json.Unmarshal(raw, &on) == nil {
		return on
	}
	var setting string
	if json.Unmarshal(raw, &setting) == nil {
		value, _ := lookup(settings, strings.Trim(setting, "%"))
		return isTrue(value)
	}
	return false
}

func isTrue(value string) bool { return value == "1" || strings.EqualFold(value, "true") }

// lookup finds a setting by its name in any case; the exact one first.
func lookup(settings map[string]string, name string) (string, bool) {
	if value, ok := settings[name]; ok {
		return value, true
	}
	for key, value := range settings {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

// namespaceOf looks a connection up as the WebJobs SDK does: the setting
// <name> or AzureWebJobs<name> with a connection string, or a section
// <name>__ with fullyQualifiedNamespace. The namespace is "" where a
// connection string does not tell it.
func namespaceOf(connection string, settings map[string]string) (namespace string, ok bool) {
	for _, name := range []string{"AzureWebJobs" + connection, connection} {
		if ns, ok := lookup(settings, name+"__fullyQualifiedNamespace"); ok {
			return ns, true
		}
		if text, ok := lookup(settings, name); ok {
			for part := range strings.SplitSeq(text, ";") {
				key, value, _ := strings.Cut(part, "=")
				if strings.EqualFold(strings.TrimSpace(key), "Endpoint") {
					_, host, _ := strings.Cut(value, "://")
					host, _, _ = strings.Cut(host, "/")
					return host, true
				}
			}
			return "", true
		}
	}
	return "", false
}
