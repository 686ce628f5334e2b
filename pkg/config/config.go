// Package config reads the settings: the one place that turns the environment
// into values, checked all at once.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// Secret is text that never shows itself.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[redacted]" }

// LogValue hides the secret.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Connection says how to reach a service, by the conventions of Functions:
// an identity and an endpoint, or a connection string.
type Connection struct {
	ConnectionString Secret
	// Endpoint is Service Bus's fully qualified namespace, or Tables' URL.
	Endpoint string
	// ManagedIdentity asks for a managed identity, ClientID for a certain one.
	ManagedIdentity bool
	ClientID        string
}

// Config is every setting.
type Config struct {
	Port       int
	ServiceBus Connection
	Tables     Connection
	// AnchorsURL is the container of the anchors; "" for none.
	AnchorsURL string

	Subscriptions            []string
	ARMEndpoint, ARMAudience string
	Rules                    nsg.Settings

	ShortestDuration, OpenWithin, SnapshotAge time.Duration
	MaxAttempts                               int
	MaxLiveGrants, MaxRequestsPerHour         int
	// Retention is how long requests are kept after they were over: whole days.
	Retention time.Duration

	Issuer, JWKSURL, TenantID string
	Audiences                 []string

	Telemetry Telemetry
}

// Part is a group of settings that a program may need.
type Part int

// The parts. Every program needs those of the rules.
const (
	Handler    Part = 1 << iota // the host's port, and the limits of requests
	ServiceBus                  // the queues
	Tables                      // the tables
	Azure                       // subscriptions and Resource Manager
	Identity                    // whose tokens are believed
	Anchors                     // the container of the anchors
	ARM                         // Resource Manager alone
)

// All is what the handler needs.
const All = Handler | ServiceBus | Tables | Azure | Identity | Anchors

// Setting documents one setting.
type Setting struct{ Name, Default, Doc string }

// Settings lists every setting, with its default ("" where there is none).
func Settings() []Setting {
	return []Setting{
		{"FUNCTIONS_CUSTOMHANDLER_PORT", "", "The port on which the host calls the handler; the host sets it."},
		{"ServiceBus__fullyQualifiedNamespace", "", "The Service Bus namespace. This or ServiceBus is required."},
		{"ServiceBus__credential", "", "managedidentity for a managed identity; otherwise azidentity's default chain."},
		{"ServiceBus__clientId", "", "The client id of a user-assigned identity."},
		{"ServiceBus", "", "A connection string, instead of the three above. A secret."},
		{"Tables__endpoint", "", "The URL of the table service. This, Tables__accountName or Tables is required."},
		{"Tables__accountName", "", "The storage account's name, in the public cloud."},
		{"Tables__credential", "", "As ServiceBus__credential."},
		{"Tables__clientId", "", "As ServiceBus__clientId."},
		{"Tables", "", "A connection string, instead of those above. A secret."},
		{"PORTCULLIS_ANCHORS_URL", "", "The https URL of the blob container for the audit's anchors, with the identity of Tables. Without one nothing is anchored; docs/audit.md says what is then not proven."},
		{"AZURE_SUBSCRIPTION_IDS", "", "The subscriptions that Scan looks at, separated by commas."},
		{"ARM_ENDPOINT", "https://management.azure.com", "Resource Manager's endpoint."},
		{"ARM_AUDIENCE", "https://management.azure.com", "The audience of tokens for it."},
		{"PORTCULLIS_INSTALLATION", "default", "The name in every rule of this installation: 1 to 20 of a-z and 0-9."},
		{"PORTCULLIS_PRIORITY_BAND", "100-999", "The priorities of our allow rules."},
		{"PORTCULLIS_BASELINE_BAND", "1000-1499", "The priorities of our deny rules, behind those of the allow rules."},
		{"PORTCULLIS_SHORTEST_DURATION", "PT1M", "The shortest grant that may be asked for."},
		{"PORTCULLIS_OPEN_WITHIN", "PT15M", "How long a grant may take to open before it fails."},
		{"PORTCULLIS_SNAPSHOT_AGE", "PT10S", "How old a machine's path may be when a request is decided."},
		{"PORTCULLIS_RETENTION", "P400D", "How long a request is kept after it was over, in days, such as P400D; P30D or more. docs/audit.md says what is removed then, and what never is."},
		{"PORTCULLIS_MAX_ATTEMPTS", "8", "How often a request message is tried before it is dead-lettered."},
		{"PORTCULLIS_MAX_LIVE_GRANTS", "20", "How many grants one requestor may have that have not ended, on all machines together; 1 to 10000. A requestor on the queue counts by name."},
		{"PORTCULLIS_MAX_REQUESTS_PER_HOUR", "60", "How many requests one caller may make in an hour, refused ones included; 1 to 100000. On the queue it is the requestor who counts, by name."},
		{"PORTCULLIS_TENANT_ID", "", "The Entra tenant whose users are believed."},
		{"PORTCULLIS_ISSUER", "", "The tokens' issuer; by default the tenant's v2.0 issuer in the public cloud."},
		{"PORTCULLIS_JWKS_URL", "", "Where the issuer's keys are; by default the tenant's in the public cloud."},
		{"PORTCULLIS_AUDIENCES", "", "The audiences of tokens for this app, separated by commas."},
		{SecretPrefix + "*", "", "The secrets of ticketing sources, each under the name that the source gives it: a value, or better a Key Vault reference. A secret."},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "", "Where metrics and traces go, as OTLP over HTTP: a base URL such as http://localhost:4318. Without it nothing is exported."},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "Nothing else is spoken."},
		{"OTEL_EXPORTER_OTLP_HEADERS", "", "Headers of each export: name=value, separated by commas, values percent-encoded. A secret."},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "delta, or cumulative for receivers that want sums since the start."},
		{"OTEL_METRIC_EXPORT_INTERVAL", "10000", "How often metrics are exported, in milliseconds; 100 to 300000."},
		{"OTEL_BSP_SCHEDULE_DELAY", "1000", "How long a span may wait for its export, in milliseconds; 10 to 60000."},
		{"OTEL_TRACES_SAMPLER_ARG", "1", "The part of the traces that is kept, from 0 to 1."},
		{"OTEL_SERVICE_NAME", "portcullis", "The name under which metrics and traces are exported."},
	}
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Load reads the settings of the parts through lookup. Its error names every
// fault, and no secret.
func Load(lookup func(string) (string, bool), parts Part) (Config, error) {
	l := &loader{lookup: lookup, defaults: map[string]string{}}
	for _, s := range Settings() {
		l.defaults[s.Name] = s.Default
	}
	var c Config
	c.Rules = nsg.Settings{Installation: l.text("PORTCULLIS_INSTALLATION"), Band: l.band("PORTCULLIS_PRIORITY_BAND"), Baseline: l.band("PORTCULLIS_BASELINE_BAND"), MaxGrant: 24 * time.Hour}
	if err := c.Rules.Validate(); err != nil {
		l.fault("PORTCULLIS_INSTALLATION, PORTCULLIS_PRIORITY_BAND, PORTCULLIS_BASELINE_BAND", "%s", access.AsError(err).Message)
	}
	if parts&Handler != 0 {
		c.Port = l.number("FUNCTIONS_CUSTOMHANDLER_PORT", 1, 65535)
		c.ShortestDuration, c.OpenWithin = l.duration("PORTCULLIS_SHORTEST_DURATION"), l.duration("PORTCULLIS_OPEN_WITHIN")
		c.SnapshotAge, c.MaxAttempts = l.duration("PORTCULLIS_SNAPSHOT_AGE"), l.number("PORTCULLIS_MAX_ATTEMPTS", 1, 100)
		c.Telemetry = l.telemetry()
		c.Retention = l.retention("PORTCULLIS_RETENTION")
		c.MaxLiveGrants, c.MaxRequestsPerHour = l.number("PORTCULLIS_MAX_LIVE_GRANTS", 1, 10_000), l.number("PORTCULLIS_MAX_REQUESTS_PER_HOUR", 1, 100_000)
	}
	if parts&ServiceBus != 0 {
		c.ServiceBus = l.connection("ServiceBus", "ServiceBus__fullyQualifiedNamespace")
	}
	if parts&Tables != 0 {
		c.Tables = l.tables()
	}
	if parts&Anchors != 0 && l.text("PORTCULLIS_ANCHORS_URL") != "" {
		c.AnchorsURL = l.container("PORTCULLIS_ANCHORS_URL")
	}
	if parts&(Azure|ARM) != 0 {
		c.ARMEndpoint, c.ARMAudience = l.https("ARM_ENDPOINT"), l.text("ARM_AUDIENCE")
	}
	if parts&Azure != 0 {
		if c.Subscriptions = l.list("AZURE_SUBSCRIPTION_IDS"); len(c.Subscriptions) == 0 {
			l.fault("AZURE_SUBSCRIPTION_IDS", "is missing")
		}
		for i, s := range c.Subscriptions {
			if c.Subscriptions[i] = strings.ToLower(s); !guid.MatchString(s) {
				l.fault("AZURE_SUBSCRIPTION_IDS", "must hold GUIDs")
			}
		}
	}
	if parts&Identity != 0 {
		l.identity(&c)
	}
	return c, errors.Join(l.faults...)
}

type loader struct {
	lookup   func(string) (string, bool)
	defaults map[string]string
	faults   []error
}

func (l *loader) fault(name, format string, args ...any) {
	l.faults = append(l.faults, fmt.Errorf("setting %s: %s", name, fmt.Sprintf(format, args...)))
}

func (l *loader) text(name string) string {
	if v, ok := l.lookup(name); ok && strings.TrimSpace(v) != "" {
		return strings.TrimSpace(v)
	}
	return l.defaults[name]
}

func (l *loader) list(name string) (out []string) {
	for v := range strings.SplitSeq(l.text(name), ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

func (l *loader) number(name string, low, high int) int {
	n, err := strconv.Atoi(l.text(name))
	if err != nil || n < low || n > high {
		l.fault(name, "must be a number from %d to %d", low, high)
	}
	return n
}

func (l *loader) duration(name string) time.Duration {
	d, err := access.ParseDuration(l.text(name))
	if err != nil {
		l.fault(name, "%s", access.AsError(err).Message)
	}
	return d
}

func (l *loader) retention(name string) time.Duration {
	const day, least, most = 24 * time.Hour, 30, 36_500
	v := l.text(name)
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(v, "P"), "D"))
	if err != nil || v != fmt.Sprintf("P%dD", n) || n < least || n > most {
		l.fault(name, "must be days from P%dD to P%dD", least, most)
		return 0
	}
	return time.Duration(n) * day
}

func (l *loader) band(name string) (b nsg.Band) {
	low, high, ok := strings.Cut(l.text(name), "-")
	var err1, err2 error
	b.Low, err1 = strconv.Atoi(low)
	b.High, err2 = strconv.Atoi(high)
	if !ok || err1 != nil || err2 != nil {
		l.fault(name, "must be two priorities, such as 100-999")
	}
	return b
}

func (l *loader) https(name string) string {
	v := l.text(name)
	if u, err := url.Parse(v); err != nil || u.Scheme != "https" || u.Host == "" {
		l.fault(name, "must be an https URL")
	}
	return v
}

// container reads the URL of a blob container. A signature in it would be a secret
// in a place for none.
func (l *loader) container(name string) string {
	v := l.text(name)
	if u, err := url.Parse(v); err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		l.fault(name, "must be the https URL of a blob container, such as https://account.blob.core.windows.net/anchors, and no more")
	}
	return v
}

func (l *loader) connection(name, endpoint string) Connection {
	c := Connection{
		ConnectionString: Secret(l.text(name)), Endpoint: l.text(endpoint), ClientID: l.text(name + "__clientId"),
	}
	switch cred := l.text(name + "__credential"); strings.ToLower(cred) {
	case "managedidentity":
		c.ManagedIdentity = true
	case "":
	default:
		l.fault(name+"__credential", "must be managedidentity or left out")
	}
	if (c.ConnectionString == "") == (c.Endpoint == "") {
		l.fault(endpoint, "give this or the connection string %s, and not both", name)
	}
	return c
}

func (l *loader) tables() Connection {
	if account := l.text("Tables__accountName"); account != "" && l.text("Tables__endpoint") == "" {
		l.defaults["Tables__endpoint"] = "https://" + account + ".table.core.windows.net"
	}
	c := l.connection("Tables", "Tables__endpoint")
	if c.Endpoint != "" {
		l.https("Tables__endpoint")
	}
	return c
}

func (l *loader) identity(c *Config) {
	if c.TenantID = l.text("PORTCULLIS_TENANT_ID"); !guid.MatchString(c.TenantID) {
		l.fault("PORTCULLIS_TENANT_ID", "must be the tenant's GUID")
	}
	login := "https://login.microsoftonline.com/" + c.TenantID
	l.defaults["PORTCULLIS_ISSUER"], l.defaults["PORTCULLIS_JWKS_URL"] = login+"/v2.0", login+"/discovery/v2.0/keys"
	c.Issuer, c.JWKSURL = l.https("PORTCULLIS_ISSUER"), l.https("PORTCULLIS_JWKS_URL")
	if c.Audiences = l.list("PORTCULLIS_AUDIENCES"); len(c.Audiences) == 0 {
		l.fault("PORTCULLIS_AUDIENCES", "is missing")
	}
}
