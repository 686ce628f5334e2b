package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

const (
	scope    = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/prod/providers/"
	requests = 48
)

// machine is one of the example topology, with the groups before it.
type machine struct {
	name, address string
	groups        []string
}

var (
	machines = []machine{
		{"web-1", "10.0.1.4", []string{"nsg-web-subnet", "nsg-web-1-nic"}},
		{"web-2", "10.0.1.5", []string{"nsg-web-subnet"}},
		{"db-1", "10.0.2.4", []string{"nsg-db-1-nic"}},
		{"dual-1", "10.0.3.4", []string{"nsg-dual-subnet"}},
	}
	groups = []string{"nsg-web-subnet", "nsg-web-1-nic", "nsg-db-1-nic", "nsg-dual-subnet"}
	ports  = []int{22, 3389}
)

func groupID(name string) access.ResourceID {
	id, err := access.ParseResourceID(scope + "Microsoft.Network/networkSecurityGroups/" + name)
	if err != nil {
		panic(err) // a constant of this file
	}
	return id
}

// asking is one request that somebody makes, and what is known of it.
type asking struct {
	id      string // the client's
	queue   bool
	who     string
	machine machine
	port    int
	source  string
	at      time.Duration // since the start of the round
	lasts   time.Duration
	revoke  bool
	extend  bool
	after   time.Duration // when that is asked for

	mu sync.Mutex
	// end is the latest at which what was asked for may still be open.
	end    time.Time
	status int // of the API's answer; 0 for none
	view   accessjson.RequestView
	sent   bool // on the queue, for sure
	more   accessjson.RequestView
	// trouble is what kept it from an answer.
	trouble string
}

// askings are drawn by the seed alone, whatever befalls them.
func askings(seed uint64) (out []*asking) {
	random := rand.New(rand.NewPCG(seed, 2))
	for i := range requests {
		a := &asking{
			id: fmt.Sprintf("crash-%d-%03d", seed, i), queue: random.IntN(5) < 2, who: []string{"alice", "bob"}[random.IntN(2)],
			machine: machines[random.IntN(len(machines))], port: ports[random.IntN(len(ports))], source: fmt.Sprintf("203.0.113.%d", 10+i),
			at: time.Duration(random.Int64N(int64(trouble - 2*time.Second))), lasts: time.Duration(3+random.IntN(6)) * time.Second,
			after: time.Duration(random.Int64N(int64(3 * time.Second))),
		}
		if !a.queue {
			what := random.IntN(4)
			a.revoke, a.extend = what == 0, what == 1
		}
		out = append(out, a)
	}
	return out
}

// load starts who asks; the group is done when all have what they can get.
func (w *world) load(ctx context.Context, j *judge) *sync.WaitGroup {
	began := time.Now()
	sender, err := w.bus.NewSender("access-requests", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), trouble+40*time.Second)
	w.t.Cleanup(cancel)
	var all sync.WaitGroup
	for _, a := range j.askings {
		all.Go(func() {
			time.Sleep(time.Until(began.Add(a.at)))
			a.mu.Lock()
			a.end = time.Now().Add(a.lasts).UTC().Truncate(time.Second)
			end := a.end
			a.mu.Unlock()
			if a.queue {
				w.post(patient, sender, a, end)
				return
			}
			w.ask(patient, a, end)
		})
	}
	return &all
}

func (a *asking) body(end time.Time) map[string]any {
	return map[string]any{
		"id": a.id, "justification": "crash", "virtualMachines": []any{map[string]any{
			"id":    scope + "Microsoft.Compute/virtualMachines/" + a.machine.name,
			"ports": []any{map[string]any{"number": a.port, "allowedSourceAddressPrefix": a.source, "endTimeUtc": end.Format(time.RFC3339)}},
		}},
	}
}

// post sends the request until the queue has taken it, perhaps twice.
func (w *world) post(ctx context.Context, sender *azservicebus.Sender, a *asking, end time.Time) {
	body := a.body(end)
	body["requestor"] = a.who + "@contoso.com"
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Error(err)
		return
	}
	for ctx.Err() == nil {
		err := sender.SendMessage(ctx, &azservicebus.Message{MessageID: &a.id, Body: data}, nil)
		if err == nil {
			a.mu.Lock()
			a.sent = true
			a.mu.Unlock()
			return
		}
		a.trouble = err.Error()
		time.Sleep(100 * time.Millisecond)
	}
}

// ask asks over HTTP, and perhaps gives it back or asks for more time.
func (w *world) ask(ctx context.Context, a *asking, end time.Time) {
	var v accessjson.RequestView
	status := w.insist(ctx, a.who, http.MethodPost, "/api/access-requests", a.body(end), &v)
	a.mu.Lock()
	a.status, a.view = status, v
	a.mu.Unlock()
	if status != http.StatusAccepted || !a.revoke && !a.extend {
		return
	}
	time.Sleep(a.after)
	at := "/api/access-requests/" + string(v.ID)
	if a.revoke {
		w.insist(ctx, a.who, http.MethodPost, at+"/revoke", map[string]any{}, nil)
		return
	}
	longer := end.Add(3 * time.Second)
	a.mu.Lock()
	a.end = longer
	a.mu.Unlock()
	var more accessjson.RequestView
	if w.insist(ctx, a.who, http.MethodPost, at+"/extend", map[string]any{"endTimeUtc": longer.Format(time.RFC3339)}, &more) == http.StatusAccepted {
		a.mu.Lock()
		a.more = more
		a.mu.Unlock()
	}
}
