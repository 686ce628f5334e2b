package functionshost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// errFunctionTimeout is the cause of an invocation's end by functionTimeout.
var errFunctionTimeout = errors.New("timed out: functionTimeout has passed")

// newHandlerClient is the client for calls to the handler. It has no time limit
// of its own: functionTimeout bounds every call.
func newHandlerClient() *http.Client {
	return &http.Client{
		CheckRedirect: noRedirect,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
}

// invocation is one execution of a function.
type invocation struct {
	id   string
	fn   *function
	host *Host
	run  *child
	sent func() // is told, once at least, when the handler has the request; may be nil
}

// execute waits for the handler, lets call do the work and bounds it by
// functionTimeout: when that passes, the handler is killed and started again,
// which fails everything else in flight too. reason says in the log why the
// function runs.
func (h *Host) execute(ctx context.Context, f *function, reason string, call func(ctx context.Context, inv invocation) error) (err error) {
	finished := h.counts.start(f.Name)
	defer func() { finished(err) }()
	inv := invocation{id: uuid.NewString(), fn: f, host: h}
	category := "Function." + f.Name
	h.console.line(levelInformation, category,
		fmt.Sprintf("Executing 'Functions.%s' (Reason='%s', Id=%s)", f.Name, reason, inv.id))
	start := time.Now()
	err = h.bounded(ctx, &inv, call)
	took := time.Since(start).Milliseconds()
	if err != nil {
		h.console.line(levelError, category,
			fmt.Sprintf("Executed 'Functions.%s' (Failed, Id=%s, Duration=%dms): %v", f.Name, inv.id, took, err))
		return err
	}
	h.console.line(levelInformation, category,
		fmt.Sprintf("Executed 'Functions.%s' (Succeeded, Id=%s, Duration=%dms)", f.Name, inv.id, took))
	return nil
}

func (h *Host) bounded(ctx context.Context, inv *invocation, call func(ctx context.Context, inv invocation) error) error {
	run, err := h.handler.address(ctx)
	if err != nil {
		return err
	}
	inv.run = run
	if limit := h.options.functionTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errFunctionTimeout)
		defer cancel()
	}
	err = call(ctx, *inv)
	if err != nil && context.Cause(ctx) == errFunctionTimeout {
		h.log.Error("function timed out, the handler is killed and started again", "function", inv.fn.Name, "invocation", inv.id)
		h.handler.restart(run)
		return errFunctionTimeout
	}
	return err
}

// invoke runs a function that is not HTTP with the envelope as its input.
func (h *Host) invoke(ctx context.Context, c call) error {
	strike := h.faults.Take("invoke " + c.fn.Name)
	if strike != nil {
		if err := strike.Hold(ctx); err != nil {
			return err
		}
	}
	return h.execute(ctx, c.fn, c.reason, struckBy(strike, c.loseLock, func(ctx context.Context, inv invocation) error {
		_, err := inv.post(ctx, c.envelope)
		return err
	}))
}

// post sends the envelope to the handler and judges the answer.
func (inv invocation) post(ctx context.Context, e envelope) (answer, error) {
	body, err := e.bytes()
	if err != nil {
		return answer{}, err
	}
	// A reader of unknown length makes the request chunked, as Azure's are.
	reader := struct{ io.Reader }{bytes.NewReader(body)}
	request, err := http.NewRequestWithContext(inv.traced(ctx), http.MethodPost, "http://"+inv.run.address+"/"+inv.fn.Name, reader)
	if err != nil {
		return answer{}, err
	}
	inv.stamp(request.Header)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("User-Agent", "Azure-Functions-Host/"+HostVersion)
	response, err := inv.host.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	received, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer{}, err
	}
	if len(received) > maxAnswer {
		return answer{}, fmt.Errorf("the handler's answer is larger than %d bytes", maxAnswer)
	}
	result, err := judge(response.StatusCode, response.Header, received)
	if errors.Is(err, errHangs) {
		inv.host.log.Warn("the function hangs", "function", inv.fn.Name, "invocation", inv.id, "reason", err)
		<-ctx.Done()
		return answer{}, errors.Join(err, ctx.Err())
	}
	for _, line := range result.Logs {
		inv.host.console.line(levelInformation, "Function."+inv.fn.Name+".User", line)
	}
	return result, err
}

// stamp sets the headers that name the host and the invocation, over anything
// that an outside caller may have sent under these names.
func (inv invocation) stamp(header http.Header) {
	header.Set("X-Azure-Functions-HostVersion", HostVersion)
	header.Set("X-Azure-Functions-InvocationId", inv.id)
}
