package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/config"
)

// TestSettingsAreDocumented holds docs/settings.md against the settings.
func TestSettingsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Settings\n\nAll are app settings of the function app, or variables of the tool's environment.\n\n| Name | Default | Meaning |\n|---|---|---|\n")
	for _, s := range config.Settings() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, s.Default, s.Doc)
	}
	const file = "../../docs/settings.md"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what the settings say: run the test with UPDATE_DOCS=1", file)
	}
}

func env(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

func complete() map[string]string {
	return map[string]string{
		"FUNCTIONS_CUSTOMHANDLER_PORT": "8080", "ServiceBus__fullyQualifiedNamespace": "ns.servicebus.windows.net",
		"Tables__accountName": "acc", "AZURE_SUBSCRIPTION_IDS": "00000000-0000-0000-0000-000000000001",
		"PORTCULLIS_TENANT_ID": "11111111-1111-1111-1111-111111111111", "PORTCULLIS_AUDIENCES": "api://p",
	}
}

func TestACompleteConfigurationLoadsWithItsDefaults(t *testing.T) {
	c, err := config.Load(env(complete()), config.All)
	if err != nil {
		t.Fatal(err)
	}
	if c.Tables.Endpoint != "https://acc.table.core.windows.net" || c.Rules.Band.High != 999 || c.MaxLiveGrants != 20 || c.MaxRequestsPerHour != 60 || c.ARMEndpoint != "https://management.azure.com" ||
		c.Issuer != "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0" {
		t.Errorf("%+v", c)
	}
}

func TestEveryFaultIsNamedAtOnceAndNoSecret(t *testing.T) {
	m := complete()
	m["ServiceBus"] = "Endpoint=sb://x/;SharedAccessKey=hush"
	m["PORTCULLIS_PRIORITY_BAND"] = "5-9999"
	m["PORTCULLIS_SHORTEST_DURATION"] = "P1M"
	delete(m, "AZURE_SUBSCRIPTION_IDS")
	_, err := config.Load(env(m), config.All)
	if err == nil {
		t.Fatal("it loaded")
	}
	for _, name := range []string{"ServiceBus__fullyQualifiedNamespace", "PORTCULLIS_PRIORITY_BAND", "PORTCULLIS_SHORTEST_DURATION", "AZURE_SUBSCRIPTION_IDS"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hush") || strings.Contains(fmt.Sprintf("%v %+v %#v", config.Secret("hush"), config.Secret("hush"), config.Secret("hush")), "hush") {
		t.Error("a secret shows")
	}
}

func TestTheContainerOfTheAnchorsIsAnAddressAndNothingElse(t *testing.T) {
	for url, good := range map[string]bool{
		"": true, "https://a.blob.core.windows.net/anchors": true, "https://127.0.0.1:1/acc/anchors": true, "http://a/anchors": false, "https://a": false, "https://a/": false,
		"https://a/anchors?sig=hush": false, "https://u:hush@a/anchors": false, "a/anchors": false,
	} {
		m := complete()
		m["PORTCULLIS_ANCHORS_URL"] = url
		c, err := config.Load(env(m), config.All)
		if (err == nil) != good || good && c.AnchorsURL != url || err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %q, %v", url, c.AnchorsURL, err)
		}
	}
}

func TestTheRetentionIsOfDaysAndNotShort(t *testing.T) {
	for text, days := range map[string]int{"": 400, "P400D": 400, "P30D": 30, "P3650D": 3650, "P29D": 0, "P0D": 0, "-P40D": 0, "P-40D": 0, "P1Y": 0, "PT9600H": 0, "P40DT1H": 0, "400": 0, "P99999999999999D": 0, "P106800D": 0, "P040D": 0} {
		m := complete()
		m["PORTCULLIS_RETENTION"] = text
		c, err := config.Load(env(m), config.All)
		if good := days > 0; (err == nil) != good || good && c.Retention != time.Duration(days)*24*time.Hour || !good && !strings.Contains(err.Error(), "PORTCULLIS_RETENTION") {
			t.Errorf("%q: %s, %v", text, c.Retention, err)
		}
	}
}

func TestTelemetry(t *testing.T) {
	with := func(more map[string]string) (config.Telemetry, error) {
		m := complete()
		for k, v := range more {
			m[k] = v
		}
		c, err := config.Load(env(m), config.All)
		return c.Telemetry, err
	}
	if c, err := with(nil); err != nil || c.Endpoint != "" || c.Ratio != 1 || c.Cumulative || c.Service != "portcullis" || c.MetricsEvery.Seconds() != 10 || c.SpansEvery.Seconds() != 1 {
		t.Errorf("by default: %+v, %v", c, err)
	}
	c, err := with(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hush%3D, x=1",
		"OTEL_TRACES_SAMPLER_ARG": "0.1", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
	})
	if err != nil || string(c.Headers["api-key"]) != "hush=" || string(c.Headers["x"]) != "1" || c.Ratio != 0.1 || !c.Cumulative || strings.Contains(fmt.Sprintf("%+v", c), "hush") {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := with(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]map[string]string{
		"no URL": {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "a password": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://u:hush@collector"},
		"a secret in clear": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=hush"},
		"no pair":           {"OTEL_EXPORTER_OTLP_HEADERS": "hush"}, "not percent-encoded": {"OTEL_EXPORTER_OTLP_HEADERS": "a=%hush"},
		"gRPC": {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "more than all": {"OTEL_TRACES_SAMPLER_ARG": "1.5"}, "no number": {"OTEL_TRACES_SAMPLER_ARG": "NaN"},
		"too often": {"OTEL_METRIC_EXPORT_INTERVAL": "1"}, "another sum": {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "lowmemory"},
	} {
		if _, err := with(bad); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
