// Package audit holds the check of the audit against every way to change the
// record behind its back, in the tables and the container themselves.
package audit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/portcullis-access/portcullis/pkg/access"
	chains "github.com/portcullis-access/portcullis/pkg/audit"
	"github.com/portcullis-access/portcullis/pkg/azure/blobs"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/broker/brokertest"
	localblobs "github.com/portcullis-access/portcullis/pkg/localazure/blobs"
	localtables "github.com/portcullis-access/portcullis/pkg/localazure/tables"
)

// start is when the tests take place.
var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// world is the record over the stand-ins, with the hands of somebody who may
// write the tables and, had it no policy, the container.
type world struct {
	t         *testing.T
	now       time.Time
	store     *tables.Store
	service   *aztables.ServiceClient
	blobs     *localblobs.Server
	anchors   *blobs.Container
	publisher *broker.Publisher
	waits     int
	// between runs when the check waits before it looks again.
	between func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: start}
	key := base64.StdEncoding.EncodeToString([]byte("a key of the test"))
	table, err := localtables.New(localtables.Config{Account: "acc", Key: key})
	w.must(err)
	table.PageSize = 7
	web := quiet(table)
	t.Cleanup(web.Close)
	cred, err := aztables.NewSharedKeyCredential("acc", key)
	w.must(err)
	o := &aztables.ClientOptions{}
	o.Transport = web.Client()
	w.service, err = aztables.NewServiceClientWithSharedKey(web.URL+"/acc", cred, o)
	w.must(err)
	w.store, err = tables.New(w.service)
	w.must(err)
	w.must(w.store.Init(t.Context()))

	w.blobs, err = localblobs.New(localblobs.Config{Account: "acc", Key: key, Containers: []localblobs.Container{{Name: "anchors", Immutable: true}}})
	w.must(err)
	web = quiet(w.blobs)
	t.Cleanup(web.Close)
	blobCred, err := container.NewSharedKeyCredential("acc", key)
	w.must(err)
	bo := &container.ClientOptions{}
	bo.Transport = web.Client()
	client, err := container.NewClientWithSharedKeyCredential(web.URL+"/acc/anchors", blobCred, bo)
	w.must(err)
	w.anchors, err = blobs.New(client)
	w.must(err)
	w.publisher, err = broker.NewPublisher(broker.PublishPorts{
		Notices: w.store, Seals: w.store, Journal: w.store, Topic: &brokertest.Topic{Faults: &brokertest.Faults{}}, Clock: w.clock, Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	return w
}

// quiet is a server that does not tell of clients which go away.
func quiet(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	return s
}

func (w *world) clock() time.Time { return w.now }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// happen records an event of the subject and seals it.
func (w *world) happen(subject, key string) {
	w.t.Helper()
	w.must(w.store.Append(w.t.Context(), []access.Event{{
		Subject: subject, Kind: access.EventOpened, Key: key, At: w.now, Actor: "portcullis", Detail: map[string]string{"vm": "web-1"},
	}}))
	w.must(w.publisher.Publish(w.t.Context(), subject))
}

func (w *world) anchor() {
	w.t.Helper()
	a, err := broker.NewAnchorer(broker.AnchorPorts{Journal: w.store, Anchors: w.anchors, Clock: w.clock, Installation: "test"})
	w.must(err)
	w.must(a.Anchor(w.t.Context()))
}

// The subjects of a day.
const (
	request = "ar-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	other   = "ar-bbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// day is three events of a request in two hours, two of another and one of the
// lockdown; all is sealed and anchored.
func day(t *testing.T) *world {
	w := newWorld(t)
	w.happen(request, "1")
	w.happen(other, "1")
	w.now = w.now.Add(time.Minute)
	w.happen(request, "2")
	w.happen("lockdown", "1")
	w.now = start.Add(time.Hour)
	w.happen(request, "3")
	w.happen(other, "2")
	w.now = start.Add(2*time.Hour + 20*time.Minute)
	w.anchor()
	w.now = w.now.Add(20 * time.Minute)
	return w
}

func (w *world) check(q broker.CheckQuery, anchored bool) broker.AuditReport {
	w.t.Helper()
	p := broker.CheckPorts{Chains: w.store, Journal: w.store, Clock: w.clock, Wait: func(context.Context, time.Duration) error {
		w.waits++
		if w.between != nil {
			w.between()
		}
		return nil
	}}
	if anchored {
		p.Anchors = w.anchors
	}
	c, err := broker.NewAuditCheck(p)
	w.must(err)
	r, err := c.Check(w.t.Context(), q)
	w.must(err)
	return r
}

// problems gives the findings of a report as "subject/seq problem".
func problems(r broker.AuditReport) []string {
	var out []string
	for _, f := range r.Findings {
		name := map[string]string{request: "request", other: "other"}[f.Subject]
		if name == "" {
			name = f.Subject
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s/%d %s", name, f.Seq, f.Problem)))
	}
	slices.Sort(out)
	return out
}

// rows gives the keys of a partition's rows that begin so, or of all partitions'.
func (w *world) rows(table, partition, prefix string) (keys [][2]string) {
	w.t.Helper()
	for pager := w.service.NewClient(table).NewListEntitiesPager(nil); pager.More(); {
		page, err := pager.NextPage(w.t.Context())
		w.must(err)
		for _, data := range page.Entities {
			var r struct{ PartitionKey, RowKey, Subject string }
			w.must(json.Unmarshal(data, &r))
			if (partition == "" || r.PartitionKey == partition || r.Subject == partition) && strings.HasPrefix(r.RowKey, prefix) {
				keys = append(keys, [2]string{r.PartitionKey, r.RowKey})
			}
		}
	}
	return keys
}

// remove takes rows out of a table.
func (w *world) remove(table string, keys [][2]string) {
	w.t.Helper()
	if len(keys) == 0 {
		w.t.Fatal("there is nothing to remove")
	}
	for _, k := range keys {
		_, err := w.service.NewClient(table).DeleteEntity(w.t.Context(), k[0], k[1], nil)
		w.must(err)
	}
}

// edit changes the documents of rows.
func (w *world) edit(table string, keys [][2]string, from, to string) {
	w.t.Helper()
	n := 0
	for _, k := range keys {
		c := w.service.NewClient(table)
		res, err := c.GetEntity(w.t.Context(), k[0], k[1], nil)
		w.must(err)
		var row map[string]any
		w.must(json.Unmarshal(res.Value, &row))
		doc, _ := row["Doc0"].(string)
		n += strings.Count(doc, from)
		data, err := json.Marshal(map[string]any{"PartitionKey": k[0], "RowKey": k[1], "Doc0": strings.ReplaceAll(doc, from, to)})
		w.must(err)
		_, err = c.UpsertEntity(w.t.Context(), data, nil)
		w.must(err)
	}
	if n == 0 {
		w.t.Fatalf("no document says %q", from)
	}
}

// journal gives the keys of a subject's rows in the journal, in their order.
func (w *world) journal(subject string) [][2]string { return w.rows("journal", subject, "") }

// remake writes a subject's whole chain and its journal anew, with another actor
// in every event: what somebody can do who can write the tables.
func (w *world) remake(subject string) {
	w.t.Helper()
	events, seals, err := w.store.Chain(w.t.Context(), subject)
	w.must(err)
	w.edit("requests", w.rows("requests", subject, "event-"), `"actor":"portcullis"`, `"actor":"somebody"`)
	w.remove("requests", w.rows("requests", subject, "chain-0"))
	w.remove("journal", w.journal(subject))
	byID := map[string]access.Event{}
	for _, e := range events {
		e.Actor = "somebody"
		byID[e.ID()] = e
	}
	var last chains.Seal
	for _, s := range seals {
		e := byID[s.Event]
		last, err = chains.Next(last, e, s.At)
		w.must(err)
		w.must(w.store.AddSeals(w.t.Context(), []chains.Seal{last}))
		w.must(w.store.EnterJournal(w.t.Context(), []broker.JournalEntry{{Seal: last, Kind: e.Kind, At: e.At, Actor: e.Actor}}))
	}
}

// retire has the service retire what is old, by a retention of so many days.
func (w *world) retire(days int) {
	w.t.Helper()
	r, err := broker.NewRetirer(broker.RetirePorts{
		Index: w.store, Record: w.store, Files: w.store, Seals: w.store, Notices: w.store, Starts: w.store, Pending: w.store, Legs: w.store,
		Clock: w.clock, Log: slog.New(slog.DiscardHandler), Retention: time.Duration(days) * 24 * time.Hour,
	})
	w.must(err)
	w.must(r.Retire(w.t.Context()))
}
