package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const (
	// maxAnswer bounds an answer, in bytes. A page of 200 machines is far smaller.
	maxAnswer = 16 << 20
	// attemptTime bounds one attempt. The front end of Azure gives an HTTP function
	// up 230 s after the call came in ("Azure Functions scale and hosting").
	attemptTime = 4 * time.Minute
)

// TokenSource gives the bearer token for a call. It is asked anew for each
// attempt and may keep what it has.
type TokenSource interface {
	Token(ctx context.Context) (string, error)
}

// TokenFunc is a function as a TokenSource.
type TokenFunc func(ctx context.Context) (string, error)

// Token calls the function.
func (f TokenFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// Options say which API is called, and how. URL and Token are required.
type Options struct {
	// URL is the function app's address, such as https://portcullis.example.com;
	// https, or http on the loopback interface.
	URL   string
	Token TokenSource
	// Transport carries the calls; nil for http.DefaultTransport.
	Transport http.RoundTripper
	// UserAgent names the caller's program; "" leaves Go's.
	UserAgent string
	// Retries is how often a call is repeated; 0 for 4, less for never.
	Retries int
	// Patience is how long one call may wait between its attempts altogether; an
	// answer that asks for more is given back as the error it is. 0 for 60 s.
	Patience time.Duration
	// Sleep waits between attempts; nil for a timer.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Client calls the API. It is safe for use by several goroutines.
type Client struct {
	Options
	base *url.URL
	http *http.Client
}

// New makes a client. It calls nothing yet.
func New(o Options) (*Client, error) {
	base, err := address(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Token == nil {
		return nil, errors.New("client: there is no source of tokens")
	}
	if o.Retries == 0 {
		o.Retries = 4
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return &Client{Options: o, base: base, http: &http.Client{
		Transport: o.Transport,
		// A redirect would carry what was asked, and perhaps the token, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// address reads the API's address. A token is sent there, so it must be one
// where nobody on the way can read it.
func address(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address must be a URL such as https://portcullis.example.com, without a user, a query or a fragment")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, errors.New("the address must begin with https:// (http:// is for this machine itself): a token is sent there")
	}
	return u, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call is one call of the API. Its path is below the base, escaped.
type call struct {
	method, path string
	query        url.Values
	body         any
	header       map[string]string
	// lossy says that a repeat after a lost answer does not do the same: what was
	// conditional may have been done already.
	lossy bool
}

// reply is an answer that succeeded.
type reply struct {
	header http.Header
	body   []byte
}

// do calls, and repeats while that can help.
func (c *Client) do(ctx context.Context, in call) (reply, error) {
	var data []byte
	if in.body != nil {
		var err error
		if data, err = json.Marshal(in.body); err != nil {
			return reply{}, fmt.Errorf("client: %w", err)
		}
	}
	var waited time.Duration
	for attempt := 0; ; attempt++ {
		out, err := c.once(ctx, in, data)
		if err == nil {
			return out, nil
		}
		err.Repeated = attempt > 0
		wait, again := c.again(in, err, attempt, waited)
		if !again || ctx.Err() != nil {
			return reply{}, err
		}
		if c.Sleep(ctx, wait) != nil {
			return reply{}, err
		}
		waited += wait
	}
}

func (c *Client) once(ctx context.Context, in call, data []byte) (reply, *Error) {
	token, err := c.Token.Token(ctx)
	if err != nil {
		return reply{}, &Error{Code: Unauthenticated, Reason: "token_unavailable", Detail: "there is no token to sign in with", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	u := *c.base
	at := u.EscapedPath() + in.path
	if u.Path, err = url.PathUnescape(at); err != nil {
		return reply{}, &Error{Code: InvalidArgument, Reason: "address_invalid", Detail: "the address has characters that none has", Err: err}
	}
	u.RawPath, u.RawQuery = at, in.query.Encode()
	req, err := http.NewRequestWithContext(ctx, in.method, u.String(), bytes.NewReader(data))
	if err != nil {
		return reply{}, &Error{Code: InvalidArgument, Reason: "address_invalid", Detail: "this cannot be sent", Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if data != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	for name, value := range in.header {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return reply{}, c.lost(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read, or is not wanted
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return reply{}, c.lost(err)
	}
	return c.read(res, body)
}

// read tells an answer of the API from an error, and from what something else
// answers in its place.
func (c *Client) read(res *http.Response, body []byte) (reply, *Error) {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case len(body) > maxAnswer:
		return reply{}, &Error{Status: res.StatusCode, Code: Internal, Reason: "answer_too_large", Detail: fmt.Sprintf("the answer has more than %d bytes", maxAnswer)}
	case res.StatusCode < 200 || res.StatusCode > 299:
		return reply{}, problem(res, kind, body)
	case len(body) > 0 && kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		return reply{}, &Error{Status: res.StatusCode, Code: Internal, Reason: "answer_unreadable",
			Detail: fmt.Sprintf("%s answered, but not as Portcullis does: is the address right?", c.base.Host)}
	}
	return reply{res.Header, body}, nil
}

// lost is the error of a call without an answer. The text of the cause names
// neither the token nor the query.
func (c *Client) lost(err error) *Error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	e := &Error{Code: Unavailable, Reason: "unreachable", Detail: fmt.Sprintf("%s could not be reached: %v", c.base.Host, err), Err: err}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		e.Code, e.Detail = DeadlineExceeded, c.base.Host+" did not answer in time"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		e.unsent = true
	}
	return e
}

// get calls and decodes the answer. What came stays beside what was read.
func get[T any](ctx context.Context, c *Client, in call) (Answer[T], error) {
	r, err := c.do(ctx, in)
	if err != nil {
		return Answer[T]{}, err
	}
	out := Answer[T]{Raw: r.body, ETag: r.header.Get("ETag")}
	if len(r.body) > 0 {
		if err := json.Unmarshal(r.body, &out.Value); err != nil {
			return Answer[T]{}, &Error{Code: Internal, Reason: "answer_unreadable", Detail: "the answer is not what this version of the client reads", Err: err}
		}
	}
	return out, nil
}

// maxPages bounds a list, so that no answer makes the client call for ever.
const maxPages = 1000

// pageOf reads one page of a list. next is the query of the page after it; nil at
// the end.
func pageOf[T any](ctx context.Context, c *Client, path string, query url.Values) (out List[T], next url.Values, err error) {
	unreadable := func(detail string, err error) error {
		return &Error{Code: Internal, Reason: "answer_unreadable", Detail: detail, Err: err}
	}
	page, err := get[struct {
		Items    []json.RawMessage `json:"items"`
		NextLink string            `json:"nextLink"`
	}](ctx, c, call{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return out, nil, err
	}
	for _, raw := range page.Value.Items {
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return out, nil, unreadable("the answer is not what this version of the client reads", err)
		}
		out.Items, out.Raw = append(out.Items, item), append(out.Raw, raw)
	}
	if page.Value.NextLink == "" {
		return out, nil, nil
	}
	// Only the query of the link is taken: the token goes where it always goes.
	link, err := url.Parse(page.Value.NextLink)
	if err != nil || link.RawQuery == "" {
		return out, nil, unreadable("the list does not say how it goes on", nil)
	}
	return out, link.Query(), nil
}

// list reads the pages of a list until it has as many items as asked for, or
// all for most = 0.
func list[T any](ctx context.Context, c *Client, path string, query url.Values, most int) (List[T], error) {
	var out List[T]
	for range maxPages {
		page, next, err := pageOf[T](ctx, c, path, query)
		if err != nil {
			return List[T]{}, err
		}
		out.Items, out.Raw = append(out.Items, page.Items...), append(out.Raw, page.Raw...)
		if most > 0 && len(out.Items) >= most {
			out.More = next != nil || len(out.Items) > most
			out.Items, out.Raw = out.Items[:most], out.Raw[:most]
			return out, nil
		}
		if query = next; query == nil {
			return out, nil
		}
	}
	return List[T]{}, &Error{Code: Internal, Reason: "answer_too_large", Detail: fmt.Sprintf("the list has more than %d pages", maxPages)}
}
