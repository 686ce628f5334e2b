package functionshost

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
)

// maxAnswer bounds the handler's answer to an invocation, in bytes.
const maxAnswer = 100 << 20

// answer is what a handler returns for a non-HTTP invocation
// (HttpScriptInvocationResult).
type answer struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// errHangs is an answer that the host never gets done with: it sets no result
// for a body that deserializes to null, so that the invocation waits for
// functionTimeout.
var errHangs = errors.New("a 2xx answer without a JSON object, which the host waits on until functionTimeout")

// judge decides on an answer by the host's rules
// (DefaultHttpWorkerService.ProcessDefaultInvocationRequest): non-2xx is a
// failure, whatever the body says; an empty body hangs; one that is not
// application/json, or not of answer's shape, is a failure.
func judge(status int, header http.Header, body []byte) (answer, error) {
	if status < 200 || status > 299 {
		return answer{}, fmt.Errorf("the handler answered %d %s", status, http.StatusText(status))
	}
	if len(body) == 0 {
		return answer{}, errHangs
	}
	contentType := header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		return answer{}, fmt.Errorf("the handler answered %d with Content-Type %q, not application/json", status, contentType)
	}
	var result *answer
	if err := json.Unmarshal(body, &result); err != nil {
		return answer{}, fmt.Errorf("the handler answered %d with a body that is not an invocation result: %w", status, err)
	}
	if result == nil { // the JSON text null
		return answer{}, errHangs
	}
	return *result, nil
}
