package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// Record reads what is kept in the tables.
type Record interface {
	Tables(ctx context.Context) ([]string, error)
	Due(ctx context.Context, now time.Time) ([]broker.Head, error)
	Pending(ctx context.Context, before time.Time) ([]access.Record, error)
	Lockdown(ctx context.Context) (access.Lockdown, error)
}

const (
	// overdue is how long past its time an NSG may be: Sweep looks every minute, and
	// goes on without the queue after two more.
	overdue = 5 * time.Minute
	// unfinished is how long a request may be on its way to being recorded.
	unfinished = 5 * time.Minute
)

// Tables checks that the tables are there, and that nothing in them is late.
func Tables(tables []byte, record Record, now func() time.Time) Check {
	return Check{"tables", func(ctx context.Context, r *Report) {
		const right = "your identity takes Storage Table Data Reader on the account"
		var want []string
		if err := json.Unmarshal(tables, &want); err != nil {
			r.failed("the list of tables", err, "")
			return
		}
		have, err := record.Tables(ctx)
		if err != nil {
			r.failed("the tables cannot be listed", err, right)
			return
		}
		for _, name := range want {
			if !slices.Contains(have, name) {
				r.Fault("the table "+name+" is missing", "deploy the infrastructure, or run: portcullis init")
			}
		}
		before := now().Add(-overdue)
		late, err := record.Due(ctx, before)
		if err != nil {
			r.failed("the NSGs' heads cannot be read", err, right)
			return
		}
		late = slices.DeleteFunc(late, func(h broker.Head) bool { return h.DueAt.After(before) }) // put off
		for _, h := range late {
			r.Fault(fmt.Sprintf("%s is due since %s: %s", h.NSG.Name(), h.DueAt.UTC().Format(time.RFC3339), or(h.Trouble, "nobody came")),
				"is the function Sweep running? Close what has expired meanwhile with: portcullis sweep")
		}
		pending, err := record.Pending(ctx, now().Add(-unfinished))
		if err != nil {
			r.failed("the pending requests cannot be read", err, right)
			return
		}
		if n := len(pending); n > 0 {
			r.Fault(fmt.Sprintf("%d requests were decided more than %s ago and are not finished", n, unfinished), "is the function Sweep running, and may its identity send to the queues?")
		}
		if l, err := record.Lockdown(ctx); err != nil {
			r.failed("whether there is a lockdown cannot be read", err, right)
		} else if l.Active {
			r.Warn("every door is kept shut since "+l.At.UTC().Format(time.RFC3339)+": "+l.Reason, "portcullis lockdown --lift")
		}
		if len(late)+len(pending) == 0 {
			r.Ok(fmt.Sprintf("%d tables; nothing in them is late", len(have)))
		}
	}}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
