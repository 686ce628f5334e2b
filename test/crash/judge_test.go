package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
)

// strangers come from where nobody asked for anything: one in the policy's range,
// one beyond it.
var strangers = []string{"203.0.113.250", "198.51.100.9"}

// judge looks at what stands open all the while, and at everything in the end.
type judge struct {
	*world
	askings   []*asking
	customers map[string]string // the customer's rules, by group

	mu       sync.Mutex
	breaches map[string]bool
	seen     int       // packets seen to pass
	last     time.Time // when one was last seen to pass
	rejected map[string]int
}

func newJudge(w *world) *judge {
	j := &judge{world: w, askings: askings(w.seed), customers: map[string]string{}, breaches: map[string]bool{}, rejected: map[string]int{}}
	for _, g := range groups {
		j.customers[g] = w.customersRules(g)
	}
	return j
}

// customersRules gives what is not ours of a group, byte for byte, but for what
// the server alone sets.
func (w *world) customersRules(name string) string {
	data, _ := w.stack.ResourceManager.NSG(string(groupID(name)))
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		return err.Error()
	}
	properties := doc["properties"].(map[string]any)
	delete(doc, "etag")
	delete(properties, "provisioningState")
	delete(properties, "defaultSecurityRules")
	properties["securityRules"] = slices.DeleteFunc(properties["securityRules"].([]any), func(r any) bool {
		one := r.(map[string]any)
		delete(one, "etag")
		delete(one["properties"].(map[string]any), "provisioningState")
		return strings.HasPrefix(one["name"].(string), "Portcullis-")
	})
	out, err := json.Marshal(doc)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// watch sends every packet that could be thought of, again and again.
func (j *judge) watch(stop <-chan struct{}) {
	for {
		j.look(time.Now())
		select {
		case <-stop:
			j.look(time.Now())
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// passing gives the packets that get through to a machine, as "source>machine:port".
func (j *judge) passing() map[string]bool {
	read := map[string]group{}
	for _, name := range groups {
		g, err := j.group(name)
		if err != nil {
			j.breach("%v", err)
		}
		read[name] = g
	}
	sources := slices.Clone(strangers)
	for _, a := range j.askings {
		sources = append(sources, a.source)
	}
	out := map[string]bool{}
	for _, m := range machines {
		dest := netip.MustParseAddr(m.address)
		for _, s := range sources {
			from := netip.MustParseAddr(s)
			for _, port := range ports {
				if !slices.ContainsFunc(m.groups, func(g string) bool { return !read[g].lets(from, dest, port) }) {
					out[fmt.Sprintf("%s>%s:%d", s, m.name, port)] = true
				}
			}
		}
	}
	return out
}

func (a *asking) packet() string { return fmt.Sprintf("%s>%s:%d", a.source, a.machine.name, a.port) }

func (j *judge) look(now time.Time) {
	asked := map[string]*asking{}
	for _, a := range j.askings {
		asked[a.packet()] = a
	}
	for packet := range j.passing() {
		a := asked[packet]
		if a == nil {
			j.breach("%s passes, and nobody asked for it", packet)
			continue
		}
		a.mu.Lock()
		end := a.end
		a.mu.Unlock()
		if end.IsZero() {
			j.breach("%s passes before it was asked for", packet)
		}
		j.mu.Lock()
		j.seen++
		j.last = now
		j.mu.Unlock()
	}
}

func (j *judge) breach(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.breaches[fmt.Sprintf(format, args...)] = true
}

// settled waits until all is done that is to be done, and says what is not by
// the time. The host's own timers are helped along, as a round is short.
func (j *judge) settled(by time.Time) {
	rejects, err := j.bus.NewReceiverForQueue("access-rejected", nil)
	if err != nil {
		j.t.Fatal(err)
	}
	began := time.Now()
	var last []string
	for i := 0; ; i++ {
		if err := j.run("Sweep"); err != nil {
			j.t.Error(err)
		}
		if i == 2 {
			if err := j.run("Scan"); err != nil {
				j.t.Error(err)
			}
		}
		j.readRejected(rejects)
		missing := j.unsettled()
		if len(missing) == 0 {
			j.t.Logf("settled %s after the faults ended; to the last, %q", time.Since(began).Round(time.Second), last)
			return
		}
		last = missing
		if time.Now().After(by) {
			for _, m := range missing {
				j.t.Errorf("never settled: %s", m)
			}
			return
		}
		time.Sleep(time.Second)
	}
}

func (j *judge) readRejected(r *azservicebus.Receiver) {
	ctx, cancel := context.WithTimeout(j.t.Context(), time.Second)
	defer cancel()
	all, err := r.ReceiveMessages(ctx, 100, nil)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		j.t.Error(err)
	}
	for _, m := range all {
		var doc struct{ MessageID string }
		if err := json.Unmarshal(m.Body, &doc); err != nil {
			j.t.Errorf("a rejection is no JSON: %v", err)
		}
		j.rejected[doc.MessageID]++
		if err := r.CompleteMessage(j.t.Context(), m, nil); err != nil {
			j.t.Error(err)
		}
	}
}

// unsettled says what is still to be done.
func (j *judge) unsettled() (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for packet := range j.passing() {
		say("%s passes", packet)
	}
	for _, name := range groups {
		legs, rows, err := j.store.Partition(j.t.Context(), groupID(name))
		if err != nil || len(legs) > 0 {
			say("%s has %d legs, %v", name, len(legs), err)
		}
		if !j.quiet(name) {
			say("%s is being written", name)
		}
		if h, err := j.store.Head(j.t.Context(), groupID(name)); err != nil || h.Wanted != h.Done {
			say("%s is not as it was last wanted: %s, %v", name, h.Trouble, err)
		}
		g, err := j.group(name)
		if err != nil {
			say("%v", err)
		}
		denies := 0
		for _, r := range g.Properties.SecurityRules {
			switch {
			case r.ours() && r.Properties.Access == "Deny" && strings.Contains(r.Name, "-deny-"):
				denies++
			case r.ours():
				say("%s still has %s", name, r.Name)
			}
		}
		if len(rows) == 0 || denies == 0 {
			say("%s has %d baselines and %d denies", name, len(rows), denies)
		}
	}
	if pending, err := j.store.Pending(j.t.Context(), time.Now().Add(time.Hour)); err != nil || len(pending) > 0 {
		say("%d requests are pending, %v", len(pending), err)
	}
	for _, q := range []string{"access-requests", "nsg-reconcile", "access-rejected"} {
		if c, ok := j.stack.ServiceBus.Counts(q); !ok || c.Active+c.Scheduled+c.DeadLettered > 0 {
			say("%s holds %+v", q, c)
		}
	}
	return out
}

// judge holds the end against the promises.
func (j *judge) judge() {
	for _, b := range slices.Sorted(maps.Keys(j.breaches)) {
		j.t.Error(b)
	}
	if j.seen == 0 {
		j.t.Error("nothing was ever seen to pass: this shows nothing")
	}
	for _, g := range groups {
		if now := j.customersRules(g); now != j.customers[g] {
			j.t.Errorf("what is the customer's in %s was\n%s\nand is\n%s", g, j.customers[g], now)
		}
	}
	told := map[string]int{}
	for _, a := range j.askings {
		told[j.fate(a)]++
	}
	j.t.Logf("of %d requests: %v; a packet was seen to pass %d times; %d rejections", len(j.askings), told, j.seen, len(j.rejected))
	if told["Revoked Expired"] == 0 {
		j.t.Error("nothing was opened and closed in its time: this shows nothing")
	}
}

// fate says what became of a request, and holds it against what its sender knows.
func (j *judge) fate(a *asking) string {
	path := "/api/access-requests/" + a.id + "?channel=queue"
	as := "sam" // whose role reads everything
	if !a.queue {
		path, as = "/api/access-requests/"+a.id+"?channel=http", a.who
	}
	var v accessjson.RequestView
	status, err := j.call(j.t.Context(), as, http.MethodGet, path, nil, &v)
	switch {
	case err != nil:
		j.t.Errorf("%s: %v", a.id, err)
		return "unreadable"
	case status == http.StatusNotFound && a.queue && j.rejected[a.id] > 0:
		return "rejected"
	case status == http.StatusNotFound && (a.queue && a.sent || a.status == http.StatusAccepted):
		j.t.Errorf("%s was taken and is forgotten", a.id)
		return "forgotten"
	case status == http.StatusNotFound:
		// It was asked for again and again, long after the trouble.
		j.t.Errorf("%s was never answered: %s", a.id, a.trouble)
		return "never answered"
	case status != http.StatusOK:
		j.t.Errorf("%s: %d", a.id, status)
		return "unreadable"
	}
	if v.Outcome != access.Accepted {
		if v.Refusal == nil || v.Refusal.Reason == "" || a.queue && j.rejected[a.id] == 0 {
			j.t.Errorf("%s was refused, and nobody told why: %+v", a.id, v)
		}
		return "refused"
	}
	j.ended(a, v)
	if a.more.ID != "" {
		var more accessjson.RequestView
		if status, err := j.call(j.t.Context(), a.who, http.MethodGet, "/api/access-requests/"+string(a.more.ID), nil, &more); err != nil || status != http.StatusOK {
			j.t.Errorf("%s, extended: %d, %v", a.id, status, err)
		} else {
			j.ended(a, more)
		}
	}
	p := v.VirtualMachines[0].Ports[0]
	return fmt.Sprintf("%s %s", p.Status, p.StatusReason)
}

// ended holds an accepted request: opened and closed, or told why not.
func (j *judge) ended(a *asking, v accessjson.RequestView) {
	for _, vm := range v.VirtualMachines {
		for _, p := range vm.Ports {
			opened := p.Status == access.Revoked && p.StatusReason != "" && !p.EndedAtUTC.IsZero()
			if !opened && !(p.Status == access.Failed && p.StatusReason != "") {
				j.t.Errorf("%s was accepted, and is neither opened and closed nor told why not: %+v", a.id, p)
			}
			if p.EndTimeUTC.After(a.end) {
				j.t.Errorf("%s ends at %s, asked for was %s", a.id, p.EndTimeUTC, a.end)
			}
		}
	}
}
