package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// endpoint is a table service to ask, and what it last answered.
type endpoint struct {
	name, base string
	client     *http.Client
	table      string // the scenario's
	last       *answer
	etags      map[string]string // by step
}

type answer struct {
	status int
	header http.Header
	body   string
}

func newEndpoint(name, url string) *endpoint {
	return &endpoint{name: name, base: url + "/" + account, client: &http.Client{Timeout: time.Minute}}
}

// begin starts a scenario, with a table of its own.
func (e *endpoint) begin(ctx context.Context, table string) error {
	e.table, e.last, e.etags = table, nil, map[string]string{}
	_, err := e.do(ctx, post("create the table", "/Tables", `{"TableName":"{T}"}`))
	return err
}

// do sends a step's request.
func (e *endpoint) do(ctx context.Context, s step) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, s.method, e.base+e.fill(s.path), strings.NewReader(e.fill(s.body)))
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"Accept": "application/json;odata=minimalmetadata", "DataServiceVersion": "3.0", "x-ms-version": "2019-02-02",
	} {
		r.Header.Set(name, value)
	}
	if s.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range s.headers {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Del(name); value != "" {
			r.Header.Set(name, e.fill(value))
		}
	}
	sign := s.auth
	if sign == nil {
		sign = sharedKeyLite
	}
	sign(r)
	res, err := e.client.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // it was read to its end
	if err != nil {
		return nil, err
	}
	e.last = &answer{res.StatusCode, res.Header, string(body)}
	e.etags[s.name] = res.Header.Get("ETag")
	return e.last, nil
}

// fill puts in what differs between endpoints: {T} is the scenario's table,
// {base} the address with the account, {next} the last answer's continuation as
// a query, and {etag STEP} the ETag that an earlier step got.
func (e *endpoint) fill(text string) string {
	text = strings.NewReplacer("{T}", e.table, "{base}", e.base, "{next}", e.next()).Replace(text)
	for step, tag := range e.etags {
		text = strings.ReplaceAll(text, "{etag "+step+"}", tag)
	}
	return text
}

func (e *endpoint) next() string {
	q := url.Values{}
	if e.last != nil {
		for _, name := range []string{"NextPartitionKey", "NextRowKey", "NextTableName"} {
			if v := e.last.header.Get("x-ms-continuation-" + name); v != "" {
				q.Set(name, v)
			}
		}
	}
	return q.Encode()
}

// An auth puts a credential into a request.
type auth func(*http.Request)

func mac(text string) string {
	secret, _ := base64.StdEncoding.DecodeString(key) // a constant
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(text)) // it never fails
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func resource(r *http.Request) string {
	text := "/" + account + r.URL.EscapedPath()
	if comp := r.URL.Query().Get("comp"); comp != "" {
		text += "?comp=" + comp
	}
	return text
}

func dated(r *http.Request, at time.Time) string {
	date := at.UTC().Format(http.TimeFormat)
	r.Header.Set("x-ms-date", date)
	return date
}

func sharedKeyLite(r *http.Request) { liteAt(time.Now())(r) }

func liteAt(at time.Time) auth {
	return func(r *http.Request) {
		date := dated(r, at)
		r.Header.Set("Authorization", "SharedKeyLite "+account+":"+mac(date+"\n"+resource(r)))
	}
}

func sharedKey(r *http.Request) {
	date := dated(r, time.Now())
	text := strings.Join([]string{r.Method, "", r.Header.Get("Content-Type"), date, resource(r)}, "\n")
	r.Header.Set("Authorization", "SharedKey "+account+":"+mac(text))
}

// authorization is any credential; an empty one is none.
func authorization(value string) auth {
	return func(r *http.Request) {
		dated(r, time.Now())
		if value != "" {
			r.Header.Set("Authorization", value)
		}
	}
}

// accountSAS signs an account SAS ("Create an account SAS") of sv 2019-02-02.
func accountSAS(permissions, types string, from, to time.Duration) auth {
	return func(r *http.Request) {
		q := r.URL.Query()
		start, expiry := sasTime(from), sasTime(to)
		for name, value := range map[string]string{"sv": "2019-02-02", "ss": "t", "srt": types, "sp": permissions, "st": start, "se": expiry} {
			q.Set(name, value)
		}
		q.Set("sig", mac(strings.Join([]string{account, permissions, "t", types, start, expiry, "", "", "2019-02-02", ""}, "\n")))
		r.URL.RawQuery = q.Encode()
	}
}

// tableSAS signs a service SAS for the table of the path ("Create a service
// SAS").
func tableSAS(permissions string, to time.Duration) auth {
	return func(r *http.Request) {
		q := r.URL.Query()
		table, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"+account+"/"), "(")
		expiry := sasTime(to)
		for name, value := range map[string]string{"sv": "2019-02-02", "tn": table, "sp": permissions, "se": expiry} {
			q.Set(name, value)
		}
		q.Set("sig", mac(strings.Join([]string{
			permissions, "", expiry, "/table/" + account + "/" + strings.ToLower(table), "", "", "", "2019-02-02", "", "", "", "",
		}, "\n")))
		r.URL.RawQuery = q.Encode()
	}
}

func sasTime(from time.Duration) string {
	return time.Now().Add(from).UTC().Format("2006-01-02T15:04:05Z")
}
