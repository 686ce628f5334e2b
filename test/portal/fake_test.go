package portal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/handlers"
	"github.com/portcullis-access/portcullis/handlers/portal"
)

const prod = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/prod"

func vm(name string) string { return prod + "/providers/microsoft.compute/virtualmachines/" + name }

type doc = map[string]any

// fakeAPI answers as the access API does, with whatever a test puts in: for
// states that the local stack does not reach by itself.
type fakeAPI struct {
	mu     sync.Mutex
	reads  map[string]any // by path
	status map[string]int // by "METHOD path", what to answer instead of 200
	writes []write
	reply  map[string]any // by "METHOD path"
	stale  bool           // the session's token has run out
	renew  bool           // and a new one is to be had
}

type write struct {
	method, path string
	header       http.Header
	body         doc
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	if f.stale {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(doc{"title": "Unauthorized", "reason": "token_expired", "detail": "the token has expired: sign in again"})
		return
	}
	answer, ok := f.reads[r.URL.Path]
	if r.Method != http.MethodGet {
		wrote := write{method: r.Method, path: r.URL.RequestURI(), header: r.Header.Clone()}
		_ = json.NewDecoder(r.Body).Decode(&wrote.body)
		f.writes = append(f.writes, wrote)
		if answer, ok = f.reply[key]; !ok {
			answer, ok = doc{}, true
		}
	}
	w.Header().Set("Content-Type", "application/json")
	status := f.status[key]
	if status == 0 && !ok {
		status, answer = http.StatusNotFound, doc{"title": "Not Found", "reason": "not_found"}
	}
	if status != 0 {
		w.WriteHeader(status)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fakeAPI) set(do func(f *fakeAPI)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f)
}

// written are the writes of one method and path, query included.
func (f *fakeAPI) written(method, path string) (out []write) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.writes {
		if w.method == method && w.path == path {
			out = append(out, w)
		}
	}
	return out
}

// serve starts the page in front of the fake, as handlers put them together.
func (f *fakeAPI) serve(t *testing.T) string {
	t.Helper()
	page, err := portal.New()
	if err != nil {
		t.Fatal(err)
	}
	guarded := handlers.SameOrigin(f)
	s := httptest.NewServer(page.Before(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.auth/refresh" {
			f.refresh(w)
			return
		}
		r.Header.Set("X-MS-TOKEN-AAD-ID-TOKEN", "t") // as if a cookie had been there
		guarded.ServeHTTP(w, r)
	})))
	t.Cleanup(s.Close)
	return s.URL
}

// refresh answers as App Service Authentication does.
func (f *fakeAPI) refresh(w http.ResponseWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.renew {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	f.stale = false
}

// someDay is a picture of an ordinary day, for one with these roles.
func someDay(roles ...string) *fakeAPI {
	now := time.Now().UTC().Truncate(time.Second)
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	port := func(number int, longest string, from ...string) doc {
		return doc{"number": number, "protocol": "TCP", "allowedSourceAddressPrefixes": from, "maxRequestAccessDuration": longest}
	}
	suggested := []doc{port(22, "PT3H", "*"), port(3389, "PT3H", "*"), port(5985, "PT3H", "*"), port(5986, "PT3H", "*")}
	machine := func(name, os, status string, more doc) doc {
		m := doc{"id": vm(name), "name": name, "resourceGroup": "prod", "subscriptionId": "00000000-0000-0000-0000-000000000001", "osType": os, "status": status,
			"ports": []doc{}, "suggestedPorts": suggested, "mayRequest": false, "exposure": doc{"status": "Shut"}, "baseline": doc{"status": "None"},
			"approvedRequests7d": 0, "asOf": at(-12 * time.Second)}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	grant := func(name string, index, number int, source, status string, more doc) doc {
		p := doc{"index": index, "number": number, "protocol": "TCP", "allowedSourceAddressPrefix": source, "status": status}
		for k, v := range more {
			p[k] = v
		}
		return doc{"id": vm(name), "ports": []doc{p}}
	}
	request := func(id, who, why string, start time.Duration, vms ...doc) doc {
		return doc{"id": id, "outcome": "Accepted", "requestor": who, "requestedBy": who, "channel": "http", "justification": why,
			"startTimeUtc": at(start), "virtualMachines": vms}
	}
	open := func(from, to time.Duration) doc { return doc{"openedAtUtc": at(from), "endTimeUtc": at(to)} }
	mine := []doc{
		request("ar-1", "alice@contoso.com", "Look at the slow queries of the shop", -14*time.Minute,
			grant("web-1", 0, 22, "203.0.113.7", "Initiated", open(-14*time.Minute, 46*time.Minute)),
			grant("db-1", 1, 3389, "203.0.113.7", "Initiating", doc{"endTimeUtc": at(46 * time.Minute)})),
		request("ar-2", "alice@contoso.com", "Window for the upgrade", 3*time.Hour, grant("web-2", 0, 22, "203.0.113.0/28", "Scheduled", doc{"endTimeUtc": at(5 * time.Hour)})),
		request("ar-3", "alice@contoso.com", "", -26*time.Hour, grant("web-1", 0, 22, "203.0.113.7", "Revoked",
			doc{"openedAtUtc": at(-26 * time.Hour), "endTimeUtc": at(-25 * time.Hour), "endedAtUtc": at(-25 * time.Hour), "statusReason": "Expired"})),
	}
	refused := doc{"id": "ar-4", "outcome": "Refused", "requestor": "alice@contoso.com", "requestedBy": "alice@contoso.com", "channel": "http", "startTimeUtc": at(-50 * time.Hour),
		"virtualMachines": []doc{{"id": vm("web-1"), "ports": []doc{{"number": 22, "allowedSourceAddressPrefix": "198.51.100.9"}}}},
		"refusal":         doc{"code": "permission_denied", "reason": "source_outside_policy", "message": "198.51.100.9 does not lie inside a range allowed for port 22: 203.0.113.0/24"}}
	bobs := request("ar-9", "bob@contoso.com", "INC-2041: certificates", -40*time.Minute, grant("dual-1", 0, 22, "2001:db8:7::12", "Initiated", open(-40*time.Minute, 20*time.Minute)))
	return &fakeAPI{
		reads: map[string]any{
			"/api/me": doc{"name": "alice@contoso.com", "objectId": "o", "roles": append([]string{}, roles...), "address": "203.0.113.7"},
			"/api/machines": doc{"items": []doc{
				machine("web-1", "Linux", "Configured", doc{"mayRequest": true, "requireJustification": true, "policyScope": vm("web-1"), "baseline": doc{"status": "Shut"}, "approvedRequests7d": 4,
					"lastAccess": at(-14 * time.Minute), "lastUser": "alice@contoso.com", "ports": []doc{port(22, "PT3H", "100.100.100.0/24"), port(3389, "PT1H", "203.0.113.0/24", "2001:db8:7::/48")}}),
				machine("web-2", "Linux", "Configured", doc{"mayRequest": true, "policyScope": prod, "baseline": doc{"status": "Shut"}, "approvedRequests7d": 1, "ports": []doc{port(22, "PT8H", "203.0.113.0/24")}}),
				machine("db-1", "Windows", "NotConfigured", doc{"exposure": doc{"status": "Exposed", "port": 3389, "rule": "AllowRdpFromAnywhere", "nsg": prod + "/providers/microsoft.network/networksecuritygroups/nsg-db-1-nic"}}),
				machine("dual-1", "Linux", "NotConfigured", doc{"exposure": doc{"status": "Unknown", "why": "the rule AllowFromPartners names a service tag"}}),
				machine("bare-1", "Linux", "Unsupported", doc{"reason": "no network security group stands on its path", "exposure": doc{"status": "Exposed", "port": 22}}),
			}},
			"/api/access-requests":             doc{"items": append(append([]doc{}, mine...), refused, bobs)},
			"/api/access-requests/ar-3/events": doc{"items": []doc{{"kind": "Requested", "at": at(-26 * time.Hour), "actor": "alice@contoso.com"}, {"kind": "Opened", "at": at(-26*time.Hour + 3*time.Second), "actor": "portcullis", "detail": doc{"rule": "pc-abc-22"}}, {"kind": "Closed", "at": at(-25 * time.Hour), "actor": "portcullis"}}},
			"/api/lockdown":                    doc{"active": false},
		},
		status: map[string]int{}, reply: map[string]any{},
	}
}

// lockedDown turns the day into one under lockdown.
func (f *fakeAPI) lockedDown() *fakeAPI {
	f.reads["/api/lockdown"] = doc{"active": true, "reason": "A laptop was stolen: <b>nobody</b> gets in", "by": "carol@contoso.com", "at": time.Now().UTC().Add(-time.Minute).Format(time.RFC3339)}
	return f
}

func (w write) String() string { return fmt.Sprintf("%s %s %v", w.method, w.path, w.body) }
