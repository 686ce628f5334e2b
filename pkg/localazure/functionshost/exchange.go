package functionshost

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// httpOutput is the value of an http output binding (HttpOutputBindingResponse).
type httpOutput struct {
	StatusCode json.RawMessage
	Status     json.RawMessage
	Body       json.RawMessage
	Headers    map[string]json.RawMessage
}

// exchange runs an HTTP function with an envelope and answers from its output
// binding.
func (inv invocation) exchange(ctx context.Context, w http.ResponseWriter, r *http.Request, params map[string]string) error {
	e, err := httpEnvelope(inv.fn, r, params, time.Now().UTC())
	if err != nil {
		return err
	}
	result, err := inv.post(ctx, e)
	if err != nil {
		return err
	}
	raw := result.Outputs[inv.fn.http.output]
	if inv.fn.http.output == "$return" {
		raw = result.ReturnValue
	}
	if len(raw) == 0 || string(raw) == "null" {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	// The value is an object or a string that holds one.
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = json.RawMessage(text)
	}
	var out httpOutput
	if err := json.Unmarshal(raw, &out); err != nil {
		return fmt.Errorf("output %s is not an http response: %w", inv.fn.http.output, err)
	}
	status, err := out.status()
	if err != nil {
		return err
	}
	for name, value := range out.Headers {
		w.Header().Set(name, scalarText(value))
	}
	w.WriteHeader(status)
	_, err = io.WriteString(w, scalarText(out.Body))
	return err
}

func (o httpOutput) status() (int, error) {
	raw := o.StatusCode
	if len(raw) == 0 {
		raw = o.Status
	}
	text := scalarText(raw)
	if text == "" {
		return http.StatusOK, nil
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 200 || code > 599 {
		return 0, fmt.Errorf("status code %q", text)
	}
	return code, nil
}

// scalarText is a JSON string's content, or other JSON as it is; null is "".
func scalarText(raw json.RawMessage) string {
	var s *string
	if json.Unmarshal(raw, &s) == nil {
		if s == nil {
			return ""
		}
		return *s
	}
	return string(raw)
}

// httpEnvelope describes a request (HttpRequestExtensions.GetRequestAsJObject).
func httpEnvelope(f *function, r *http.Request, params map[string]string, now time.Time) (envelope, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return envelope{}, err
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	query := map[string]any{}
	for name, values := range r.URL.Query() {
		query[name] = strings.Join(values, ",")
	}
	headers := map[string]any{}
	for name, values := range r.Header {
		headers[name] = values
	}
	headers["Host"] = []string{r.Host}
	routeParams := map[string]any{}
	for name, value := range params {
		routeParams[name] = value
	}
	request := map[string]any{
		"Url":     scheme + "://" + r.Host + r.URL.RequestURI(),
		"Method":  r.Method,
		"Query":   query,
		"Headers": headers,
		"Params":  routeParams,
	}
	var metadata bindingData
	if len(body) > 0 && utf8.Valid(body) {
		request["Body"] = string(body)
		metadata.merge(string(body))
	} else if len(body) > 0 {
		request["Body"] = body
	}
	for name, value := range params {
		metadata.set(name, value)
	}
	metadata.addSystem(f.Name, now)
	encoded, err := jsonText(request)
	if err != nil {
		return envelope{}, err
	}
	return newEnvelope(f.binding, encoded, &metadata)
}
