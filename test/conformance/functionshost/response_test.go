package functionshost

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestResponses gives a message's first delivery an answer: it is the only one
// if the answer is a success.
func TestResponses(t *testing.T) {
	const json = "application/json"
	const result = service + ", ProcessDefaultInvocationRequest"
	tests := []struct {
		name, source string
		answer       answer
		deliveries   int
		timedOut     bool
	}{
		{"{}", result, answer{200, json, nil, `{}`}, 1, false},
		{"any 2xx", result + ", EnsureSuccessStatusCode", answer{202, json, nil, `{"Outputs":{},"Logs":["a line"],"ReturnValue":null}`}, 1, false},
		{"a charset", result, answer{200, json + "; charset=utf-8", nil, `{}`}, 1, false},
		{"500", result + ", EnsureSuccessStatusCode", answer{500, json, nil, `{"Logs":["never shown"]}`}, 2, false},
		{"400", result + ", EnsureSuccessStatusCode", answer{400, json, nil, `{}`}, 2, false},
		{"a redirect", "I: HttpClient would follow it; the stand-in fails it", answer{302, json, map[string]string{"Location": "/"}, `{}`}, 2, false},
		{"no Content-Type", service + ", GetHttpScriptInvocationResult", answer{200, "", nil, `{}`}, 2, false},
		{"text/plain", service + ", GetHttpScriptInvocationResult", answer{200, "text/plain", nil, `{}`}, 2, false},
		{"an array", service + ", GetHttpScriptInvocationResult", answer{200, json, nil, `[]`}, 2, false},
		{"an empty 200 hangs", result + ": no result is set for null", answer{200, json, nil, ``}, 2, true},
		{"204 hangs", result + ": no result is set for null", answer{204, "", nil, ``}, 2, true},
		{"null hangs", result + ": no result is set for null", answer{200, json, nil, `null`}, 2, true},
	}
	var facts []fact
	for _, test := range tests {
		facts = append(facts, fact{test.name, test.source, func(t *testing.T) {
			b := startBus(t, queue("q", 0, 5, false))
			s := setup{bus: b, functions: map[string]string{"On": busFunction(`"queueName":"q","dataType":"binary"`)}}
			if test.timedOut {
				s.top = `,"functionTimeout":"00:00:01"`
			}
			s.request = func(_ context.Context, e event) order {
				if call, err := decode(e); err == nil && call.count() == "1" {
					return order{Answer: &test.answer}
				}
				return order{}
			}
			h := s.run(t)
			b.send(t, "q", message("m", ""))
			b.drained(t, "q")
			if got, want := h.deliveries(t, "On"), []string{"m/1", "m/2"}[:test.deliveries]; !slices.Equal(got, want) {
				t.Errorf("deliveries %q, want %q", got, want)
			}
			stats := h.Stats()
			if timedOut := stats.Functions["On"].TimedOut == 1; timedOut != test.timedOut || (stats.HandlerRuns == 2) != test.timedOut {
				t.Errorf("%+v", stats)
			}
			if strings.Contains(h.out.String(), "never shown") {
				t.Error("the logs of a failure are shown")
			}
			if strings.Contains(test.answer.Body, "a line") != strings.Contains(h.out.String(), "Function.On.User: a line\n") {
				t.Error("the logs of a success are not shown")
			}
		}})
	}
	hold(t, facts)
}
