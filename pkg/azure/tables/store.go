// Package tables keeps the record in Table Storage, over aztables.
//
// Tables: policies (a partition per subscription), requests (a partition per
// request or NSG: the record, ended legs, events and their seals; and one for the
// lockdown), pending (what Submit has not finished, what is to be started, which
// NSGs are due, whose events are to be sent, and the events of tickets that are not
// worked), nsgs (a
// partition per NSG: its head and its live legs), index (requests by name, by VM, by
// ticket and by day), journal (events by the day on which they were sealed), tickets
// (a partition per ticket: what its last event said; and one per event), sources.
package tables

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	// chunk is how much of a document one property holds: a string property may
	// have 64 KiB, of UTF-16.
	chunk = 30_000
	// maxTransaction is how many rows one transaction may hold.
	maxTransaction = 100
	// opTimeout bounds one call with its retries.
	opTimeout = 30 * time.Second
)

// Store implements the broker's store ports. It is safe for concurrent use.
type Store struct {
	service                                 *aztables.ServiceClient
	policies, requests, pending, nsg, index *aztables.Client
	journal, tickets, sources               *aztables.Client
	told                                    func(subject string)
}

// New makes a Store over the table service.
func New(service *aztables.ServiceClient) (*Store, error) {
	if service == nil {
		return nil, errors.New("tables: a client is required")
	}
	return &Store{
		service: service, policies: service.NewClient("policies"), requests: service.NewClient("requests"),
		pending: service.NewClient("pending"), nsg: service.NewClient("nsgs"), index: service.NewClient("index"),
		tickets: service.NewClient("tickets"), sources: service.NewClient("sources"),
		journal: service.NewClient("journal"),
	}, nil
}

// Init creates the tables that are missing.
func (s *Store) Init(ctx context.Context) error {
	for _, name := range []string{"policies", "requests", "pending", "nsgs", "index", "journal", "tickets", "sources"} {
		if _, err := s.service.CreateTable(ctx, name, nil); err != nil && !is(err, "TableAlreadyExists") {
			return failure(err, "creating the table "+name)
		}
	}
	return nil
}

// plain is what may be a key as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// hash makes a key of what may hold characters that no key may.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// row is an entity: plain columns for an operator, and the document that is
// read back.
type row map[string]any

func newRow(partition, key string, doc any) (row, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	r := row{"PartitionKey": partition, "RowKey": key}
	for i := 0; len(data) > 0; i++ {
		// Cutting inside a rune would not survive; JSON of ours is cut at ASCII.
		n := min(chunk, len(data))
		for n < len(data) && data[n]&0xC0 == 0x80 {
			n--
		}
		r[fmt.Sprintf("Doc%d", i)] = string(data[:n])
		data = data[n:]
	}
	return r, nil
}

func (r row) time(name string, t time.Time) {
	r[name], r[name+"@odata.type"] = t.UTC().Format("2006-01-02T15:04:05.0000000Z"), "Edm.DateTime"
}

func (r row) bytes() ([]byte, error) { return json.Marshal(map[string]any(r)) }

func (r row) key() string  { k, _ := r["RowKey"].(string); return k }
func (r row) etag() string { e, _ := r["odata.etag"].(string); return e }

func parse(data []byte) (row, error) {
	var r row
	return r, json.Unmarshal(data, &r)
}

// doc reads the document of the row.
func (r row) doc(into any) error {
	var b strings.Builder
	for i := 0; ; i++ {
		part, ok := r[fmt.Sprintf("Doc%d", i)].(string)
		if !ok {
			break
		}
		b.WriteString(part)
	}
	if err := json.Unmarshal([]byte(b.String()), into); err != nil {
		return unreadable(err)
	}
	return nil
}

func get(ctx context.Context, c *aztables.Client, partition, key string) (row, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	res, err := c.GetEntity(ctx, partition, key, nil)
	if err != nil {
		return nil, failure(err, "reading a row")
	}
	r, err := parse(res.Value)
	if err == nil {
		r["odata.etag"] = string(res.ETag)
	}
	return r, err
}

func query(ctx context.Context, c *aztables.Client, filter string) ([]row, error) {
	return queryMost(ctx, c, filter, 0)
}

// queryMost gives the first rows in the order of their keys; 0 is all of them.
func queryMost(ctx context.Context, c *aztables.Client, filter string, most int) (out []row, err error) {
	format := aztables.MetadataFormatFull // only this one promises ETags
	o := &aztables.ListEntitiesOptions{Filter: &filter, Format: &format}
	if most > 0 {
		top := int32(min(most, 1000)) // the most that a page may have
		o.Top = &top
	}
	err = pages(ctx, c, o, func(data []byte) (bool, error) {
		r, err := parse(data)
		out = append(out, r)
		return len(out) != most, err
	})
	if err != nil {
		return nil, err // some are not all
	}
	return out, nil
}

// pages hands over the rows of a query as long as more are wanted.
func pages(ctx context.Context, c *aztables.Client, o *aztables.ListEntitiesOptions, take func(data []byte) (more bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*opTimeout)
	defer cancel()
	for pager := c.NewListEntitiesPager(o); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return failure(err, "querying rows")
		}
		for _, data := range page.Entities {
			if more, err := take(data); err != nil {
				return unreadable(err)
			} else if !more {
				return nil
			}
		}
	}
	return nil
}

func unreadable(err error) error {
	return access.Wrap(err, access.Internal, "record_unreadable", "a stored row cannot be read")
}

// literal quotes a value for a filter.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// under filters for the rows of a partition whose keys begin with the prefix,
// which ends with "-".
func under(partition, prefix string) string {
	// "." follows "-" in the order of keys.
	end := strings.TrimSuffix(prefix, "-") + "."
	return "PartitionKey eq " + literal(partition) + " and RowKey ge " + literal(prefix) + " and RowKey lt " + literal(end)
}

func action(kind aztables.TransactionType, r row, etag string) (aztables.TransactionAction, error) {
	clean := row{}
	for k, v := range r {
		if !strings.HasPrefix(k, "odata.") && !strings.HasPrefix(k, "Timestamp") {
			clean[k] = v
		}
	}
	data, err := clean.bytes()
	a := aztables.TransactionAction{ActionType: kind, Entity: data}
	if etag != "" {
		e := azcore.ETag(etag)
		a.IfMatch = &e
	}
	return a, err
}

func submit(ctx context.Context, c *aztables.Client, actions []aztables.TransactionAction) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for len(actions) > 0 {
		n := min(len(actions), maxTransaction)
		if err := transact(ctx, c, actions[:n]); err != nil {
			return failure(err, "writing rows")
		}
		actions = actions[n:]
	}
	return nil
}

// transact writes the rows together. One row alone needs no transaction, whose
// envelope costs more than the row.
func transact(ctx context.Context, c *aztables.Client, actions []aztables.TransactionAction) (err error) {
	one := actions[0]
	switch {
	case len(actions) == 1 && one.ActionType == aztables.TransactionTypeAdd:
		_, err = add(ctx, c, one.Entity)
	case len(actions) == 1 && one.ActionType == aztables.TransactionTypeInsertReplace && one.IfMatch == nil:
		_, err = c.UpsertEntity(ctx, one.Entity, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	default:
		_, err = c.SubmitTransaction(ctx, actions, nil)
	}
	return err
}

// add adds a row, which need not come back ("Setting the Prefer header", Insert
// Entity).
func add(ctx context.Context, c *aztables.Client, data []byte) (aztables.AddEntityResponse, error) {
	return c.AddEntity(policy.WithHTTPHeader(ctx, http.Header{"Prefer": {"return-no-content"}}), data, nil)
}

// put writes a row in place of whatever is there.
func put(ctx context.Context, c *aztables.Client, r row, doing string) error {
	data, err := r.bytes()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err = c.UpsertEntity(ctx, data, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	return failure(err, doing)
}

// insert adds a row; one that exists is left as it is.
func insert(ctx context.Context, c *aztables.Client, r row) (created bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	data, err := r.bytes()
	if err != nil {
		return false, err
	}
	if _, err = add(ctx, c, data); is(err, "EntityAlreadyExists") {
		return false, nil
	}
	return err == nil, failure(err, "adding a row")
}

// inner finds the status and the code of a failed transaction in its answer.
var inner = regexp.MustCompile(`(?s)HTTP/1\.1 (\d{3}) .*?\{"odata\.error":\{"code":"(\w+)"`)

// refusal gives the HTTP status and the code by which Table Storage refused. A
// failed transaction carries both in its body alone, under the status 202.
func refusal(err error) (status int, code string, ok bool) {
	res, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return 0, "", false
	}
	if res.StatusCode == http.StatusAccepted {
		if m := inner.FindStringSubmatch(res.Error()); m != nil {
			status, _ = strconv.Atoi(m[1]) // three digits
			return status, m[2], true
		}
	}
	return res.StatusCode, res.ErrorCode, true
}

// is looks for a code of Table Storage.
func is(err error, code string) bool {
	_, have, _ := refusal(err)
	return have == code
}

func failure(err error, doing string) error {
	if err == nil {
		return nil
	}
	status, _, ok := refusal(err)
	switch {
	case !ok:
		return access.Wrap(err, access.Unavailable, "tables_unavailable", doing+": the tables could not be reached")
	case is(err, "UpdateConditionNotSatisfied"), is(err, "EntityAlreadyExists"), status == http.StatusPreconditionFailed:
		return access.Wrap(err, access.Aborted, "row_changed", doing+": somebody else was first")
	case is(err, "TableNotFound"):
		return access.Wrap(err, access.Unavailable, "table_missing", doing+": a table is missing")
	case is(err, "ResourceNotFound"), status == http.StatusNotFound:
		return access.Wrap(err, access.NotFound, "row_missing", doing+": there is no such row")
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return access.Wrap(err, access.Unavailable, "azure_permission", doing+": our identity may not")
	case status == http.StatusBadRequest:
		return access.Wrap(err, access.Internal, "tables_refused", doing+": the tables refused it")
	}
	return access.Wrap(err, access.Unavailable, "tables_unavailable", doing+": the tables are not well")
}
