package connect_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/config"
)

// TestABurstKeepsItsConnections makes as many calls at once as the host makes of a
// queue, twice: the second time none needs a new connection.
func TestABurstKeepsItsConnections(t *testing.T) {
	const atOnce = 32
	var made, asked atomic.Int32
	var together atomic.Pointer[chan struct{}]
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ready := *together.Load()
		if asked.Add(1) == atOnce {
			close(ready)
		}
		<-ready // until then each has a connection of its own
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"odata.error":{"code":"ResourceNotFound","message":{"lang":"en-US","value":"none"}}}`))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	store, err := connect.Tables(config.Connection{
		ConnectionString: config.Secret("DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=" + srv.URL + "/a;"),
	}, connect.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		asked.Store(0)
		ready := make(chan struct{})
		together.Store(&ready)
		var calls sync.WaitGroup
		for range atOnce {
			calls.Go(func() {
				if _, _, err := store.Find(t.Context(), access.NewRequestID(access.Sender{}, "x")); access.CodeOf(err) != access.NotFound {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if n := made.Load(); n != atOnce {
		t.Errorf("%d connections were made for %d calls at once, twice", n, atOnce)
	}
}
