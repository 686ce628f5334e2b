package tables_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	local "github.com/portcullis-access/portcullis/pkg/localazure/tables"
)

// world is a Store over the stand-in, with a hand between the two.
type world struct {
	*tables.Store
	service *aztables.ServiceClient
	web     *httptest.Server
	// hook sees every request first and may answer it, by returning true.
	hook  atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	calls atomic.Int64
}

// newWorld makes a world whose tables answer in pages of the size.
func newWorld(t *testing.T, pageSize int) *world {
	t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte("a key of the test"))
	h, err := local.New(local.Config{Account: "acc", Key: key})
	check(t, err)
	h.PageSize = pageSize
	w := &world{}
	w.web = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.calls.Add(1)
		if hook := w.hook.Load(); hook != nil && (*hook)(rw, r) {
			return
		}
		h.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.web.Close)
	cred, err := aztables.NewSharedKeyCredential("acc", key)
	check(t, err)
	o := &aztables.ClientOptions{}
	o.Transport = w.web.Client()
	o.Retry.MaxRetries = 1
	o.Retry.RetryDelay = time.Millisecond
	w.service, err = aztables.NewServiceClientWithSharedKey(w.web.URL+"/acc", cred, o)
	check(t, err)
	w.Store, err = tables.New(w.service)
	check(t, err)
	check(t, w.Init(t.Context()))
	return w
}

// intercept lets f see every request until the returned function is called.
func (w *world) intercept(f func(http.ResponseWriter, *http.Request) bool) (stop func()) {
	w.hook.Store(&f)
	return func() { w.hook.Store(nil) }
}

// refuse answers as the service does.
func refuse(rw http.ResponseWriter, status int, code string) {
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("x-ms-error-code", code)
	rw.WriteHeader(status)
	fmt.Fprintf(rw, `{"odata.error":{"code":%q,"message":{"lang":"en-US","value":"refused by the test"}}}`, code)
}

func wantCode(t *testing.T, err error, code access.Code, reason string) {
	t.Helper()
	if access.CodeOf(err) != code || access.ReasonOf(err) != reason {
		t.Errorf("got %v, want %s %s", err, code, reason)
	}
}

// request gives the n-th id of a request.
func request(n int) access.RequestID {
	return access.NewRequestID(access.Sender{Channel: access.ChannelQueue}, fmt.Sprint(n))
}

func legOf(id access.RequestID, grant int) access.Leg {
	l := leg(grant)
	l.Request = id
	return l
}

func event(subject string, key string, when time.Time) access.Event {
	return access.Event{Subject: subject, Kind: access.EventOpened, Key: key, At: when, Actor: "portcullis", Detail: map[string]string{"a": "b"}}
}

func listOptions(filter string) *aztables.ListEntitiesOptions {
	return &aztables.ListEntitiesOptions{Filter: &filter}
}

func replace() *aztables.UpsertEntityOptions {
	return &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace}
}
