package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// calls notes what is asked of Azure, in order. It is a policy of azcore's
// pipelines, called once per call of an SDK, whatever is retried below it.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, call)
}

// take gives the calls noted so far, and forgets them.
func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.list
	c.list = nil
	return out
}

// Do implements policy.Policy.
func (c *calls) Do(r *policy.Request) (*http.Response, error) {
	c.note(callOf(r.Raw().Method, r.Raw().URL.Path))
	return r.Next()
}

// callOf names a call by its method and what it is about: a table, a
// transaction, or a type of resource.
func callOf(method, path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	last := parts[len(parts)-1]
	if strings.Contains(path, "/providers/") && len(parts) >= 2 {
		return method + " " + parts[len(parts)-2]
	}
	table, _, _ := strings.Cut(last, "(")
	return method + " " + table
}

// notedPrompts notes the sends, which do not go over HTTP.
type notedPrompts struct {
	broker.Prompts
	calls *calls
}

const sendCall = "SEND nsg-reconcile"

func (p notedPrompts) Prompt(ctx context.Context, nsg access.ResourceID, at time.Time) error {
	p.calls.note(sendCall)
	return p.Prompts.Prompt(ctx, nsg, at)
}

// extra gives what list holds besides the calls of part, which must be in list
// in the same order; ok is false when they are not.
func extra(list, part []string) (more []string, ok bool) {
	for _, c := range list {
		if len(part) > 0 && c == part[0] {
			part = part[1:]
			continue
		}
		more = append(more, c)
	}
	return slices.Clip(more), len(part) == 0
}
