package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Answer is what the deployment answered to one call.
type Answer struct {
	Status int
	Date   time.Time // the Date header; zero for none
	Body   string
}

// Probe makes one call without a token, and follows no redirect.
type Probe func(ctx context.Context, method, path string) (Answer, error)

// Caller is what the API says to whoever runs the examination.
type Caller struct {
	Name  string
	Roles []string
	// Machines counts the machines that they may see.
	Machines int
}

// skew is how far clocks may be apart.
const skew = 30 * time.Second

// API checks that the API answers, asks for a token, and is reached at no other
// address than its own. now is this machine's clock.
func API(url string, probe Probe, now func() time.Time) Check {
	return Check{"api", func(ctx context.Context, r *Report) {
		if !strings.HasPrefix(url, "https://") {
			r.Warn("the API is called over http", "call it by https: a token is sent there")
		}
		started := now()
		a, err := probe(ctx, http.MethodGet, "/api/openapi.json")
		if err != nil {
			r.failed("the API cannot be reached", err, "is the address right, and does the function app run? Look at its log stream")
			return
		}
		if a.Status != http.StatusOK || !strings.Contains(a.Body, `"openapi"`) {
			r.Fault(fmt.Sprintf("GET /api/openapi.json is answered %d", a.Status), "the handler does not run, or something else answers at this address: look at the app's log stream")
			return
		}
		r.Ok("the API answers")
		clock(r, a.Date, started, now())
		a, err = probe(ctx, http.MethodGet, "/api/me")
		switch {
		case err != nil:
			r.failed("GET /api/me", err, "")
		case a.Status != http.StatusUnauthorized:
			r.Fault(fmt.Sprintf("without a token GET /api/me is answered %d, and not 401", a.Status),
				"App Service Authentication must let anonymous calls through to the app, which checks tokens itself")
		default:
			r.Ok("a call without a token is refused by the app itself")
		}
	}}
}

func clock(r *Report, theirs, before, after time.Time) {
	switch {
	case theirs.IsZero():
		r.Skip("the answer bears no Date, so the clocks were not compared")
	case before.Sub(theirs) > skew || theirs.Sub(after) > skew:
		r.Warn(fmt.Sprintf("the app's clock says %s and this machine's %s", theirs.UTC().Format(time.RFC3339), after.UTC().Format(time.RFC3339)),
			"one of them is wrong; doors close by the later of the app's clock and Service Bus's, tokens and webhooks are judged by the app's")
	default:
		r.Ok("the clocks agree")
	}
}

// Functions checks that no function is reached from outside: whoever could would
// forge a queue's delivery. It asks by GET, which no function takes.
func Functions(names []string, probe Probe) Check {
	return Check{"functions", func(ctx context.Context, r *Report) {
		open := 0
		for _, name := range names {
			a, err := probe(ctx, http.MethodGet, "/"+name)
			if err != nil {
				r.failed("GET /"+name, err, "")
				return
			}
			if a.Status != http.StatusNotFound && a.Status != http.StatusUnauthorized {
				open++
				r.Fault(fmt.Sprintf("GET /%s is answered %d, and not 404", name, a.Status), "a route reaches a function's name: deploy the package as it was built, with its host.json and function.json files")
			}
		}
		if open == 0 {
			r.Ok(fmt.Sprintf("none of %d functions is reached from outside", len(names)))
		}
	}}
}

// Token checks who the caller is to the API, and what they may.
func Token(who func(ctx context.Context) (Caller, error)) Check {
	return Check{"identity", func(ctx context.Context, r *Report) {
		c, err := who(ctx)
		if err != nil {
			r.failed("the API does not take your token", err, "PORTCULLIS_TENANT_ID, PORTCULLIS_AUDIENCES and PORTCULLIS_ISSUER of the app must be those of the token (aud, iss, tid)")
			return
		}
		r.Ok(fmt.Sprintf("you are %s, with %d app roles", c.Name, len(c.Roles)))
		if !slices.Contains(c.Roles, "Portcullis.Administer") && !slices.Contains(c.Roles, "Access.ReadAll") {
			r.Warn("your roles show you only what is yours", "examine with Access.ReadAll or Portcullis.Administer")
			return
		}
		// What the app answers here it has read by its own identity.
		if c.Machines == 0 {
			r.Warn("the app sees no virtual machine", "its identity needs the role for network security groups on every subscription of AZURE_SUBSCRIPTION_IDS")
			return
		}
		r.Ok(fmt.Sprintf("the app's identity reads %d virtual machines", c.Machines))
	}}
}
