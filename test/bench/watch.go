package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
	"golang.org/x/sync/errgroup"
)

// watch sends bursts and looks at what comes of them: at the group, as Resource
// Manager would answer, and at the ledger.
type watch struct {
	*local
	burstCase
	grants int
	client *azservicebus.Client
	group  access.ResourceID
	prefix string // of our rules' names
	token  string
	costs  costs
}

func newWatch(s *local, o options, grants int, c burstCase) (*watch, error) {
	group, err := groupID(ourGroup)
	if err != nil {
		return nil, err
	}
	bus, err := s.bus()
	if err != nil {
		return nil, err
	}
	token, err := s.Identity.Mint(identity.UserToken{Name: "sam@contoso.com", Audience: localazure.Audience, Roles: []string{string(access.RoleReadAll)}})
	if err != nil {
		return nil, err
	}
	costs, err := newCosts(o.app, o.profile)
	return &watch{local: s, burstCase: c, grants: grants, client: bus, group: group, prefix: "Portcullis-" + s.cfg.Rules.Installation + "-", token: token, costs: costs}, err
}

// burst sends the requests and waits until all have opened and closed again.
func (w *watch) burst(ctx context.Context) (r result, err error) {
	before := w.ResourceManager.Stats()
	end, err := w.costs.phase(ctx, "open")
	if err != nil {
		return r, err
	}
	began := time.Now()
	deadline := began.Add(w.lease).Truncate(time.Second)
	ids, err := w.send(ctx, deadline)
	if err != nil {
		return r, fmt.Errorf("sending the burst: %w", err)
	}
	opening, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := w.until(opening, "all grants are open on the group", w.allOpen); err != nil {
		return r, fmt.Errorf("%w (its grants last for %s; --lease and --many-lease give it more)", err, w.lease)
	}
	r.open = time.Since(began)
	if err := w.until(opening, "all grants are recorded as open", w.recorded(func(legs []access.Leg) bool {
		return len(legs) == len(ids) && !slices.ContainsFunc(legs, func(l access.Leg) bool { return l.State != access.LegOpen })
	})); err != nil {
		return r, err
	}
	r.recordedOpen = time.Since(began)
	if r.costs[0], err = end(); err != nil {
		return r, err
	}
	fmt.Fprintf(os.Stderr, "bench: %d grants are open after %.1f s\n", w.grants, r.recordedOpen.Seconds())
	if err := w.told(ctx, ids, access.Initiated); err != nil {
		return r, err
	}
	r.openWrites = w.ResourceManager.Stats().NSGWrites - before.NSGWrites
	if end, err = w.costs.phase(ctx, "close"); err != nil {
		return r, err
	}
	if err := w.until(ctx, "all grants are closed on the group", w.allClosed); err != nil {
		return r, err
	}
	if r.closed = time.Since(deadline); r.closed < 0 {
		return r, errors.New("grants were closed before their time")
	}
	if err := w.until(ctx, "all grants have left the ledger", w.recorded(func(legs []access.Leg) bool { return len(legs) == 0 })); err != nil {
		return r, err
	}
	r.recordedClosed = time.Since(deadline)
	if r.costs[1], err = end(); err != nil {
		return r, err
	}
	after := w.ResourceManager.Stats()
	r.closeWrites = after.NSGWrites - before.NSGWrites - r.openWrites
	for kind, n := range after.Reads {
		r.reads += n - before.Reads[kind]
	}
	return r, w.told(ctx, ids, access.Revoked)
}

// send posts the requests in as few batches as hold them, and gives their ids.
func (w *watch) send(ctx context.Context, deadline time.Time) (ids []string, err error) {
	sender, err := w.client.NewSender("access-requests", nil)
	if err != nil {
		return nil, err
	}
	defer sender.Close(context.WithoutCancel(ctx))
	batch, err := sender.NewMessageBatch(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range w.grants {
		id := "bench-" + uuid.NewString()
		ids = append(ids, id)
		body, err := json.Marshal(map[string]any{
			"id": id, "requestor": requestor(i / w.machines), "justification": "look at the logs",
			"virtualMachines": []any{map[string]any{"id": vmScope + vmName(i%w.machines), "ports": []any{map[string]any{
				"number": 22, "allowedSourceAddressPrefix": source(i), "endTimeUtc": deadline.UTC().Format(time.RFC3339),
			}}}},
		})
		if err != nil {
			return nil, err
		}
		err = batch.AddMessage(&azservicebus.Message{Body: body}, nil)
		if errors.Is(err, azservicebus.ErrMessageTooLarge) {
			if err = sender.SendMessageBatch(ctx, batch, nil); err != nil {
				return nil, err
			}
			if batch, err = sender.NewMessageBatch(ctx, nil); err != nil {
				return nil, err
			}
			err = batch.AddMessage(&azservicebus.Message{Body: body}, nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return ids, sender.SendMessageBatch(ctx, batch, nil)
}

// until looks until it is so; what says for whom waits in vain what did not come.
func (w *watch) until(ctx context.Context, what string, look func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, burstLimit)
	defer cancel()
	for {
		done, seen, err := look(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s, in vain: %s: %w", what, seen, ctx.Err())
		case err := <-w.Failed():
			return err
		case <-time.After(watchEvery):
		}
	}
}

type groupDoc struct {
	Properties struct {
		ProvisioningState string `json:"provisioningState"`
		SecurityRules     []struct {
			Name       string  `json:"name"`
			Properties ruleDoc `json:"properties"`
		} `json:"securityRules"`
	} `json:"properties"`
}

type ruleDoc struct {
	Access                     string   `json:"access"`
	SourceAddressPrefix        string   `json:"sourceAddressPrefix"`
	SourceAddressPrefixes      []string `json:"sourceAddressPrefixes"`
	DestinationAddressPrefix   string   `json:"destinationAddressPrefix"`
	DestinationAddressPrefixes []string `json:"destinationAddressPrefixes"`
}

// doors gives what our rules on the group let in, as "source>destination", and
// whether no write is under way.
func (w *watch) doors() (open map[string]bool, quiet bool, err error) {
	data, ok := w.ResourceManager.NSG(string(w.group))
	if !ok {
		return nil, false, errors.New("the network security group is gone")
	}
	var doc groupDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, false, err
	}
	open = map[string]bool{}
	for _, r := range doc.Properties.SecurityRules {
		if !strings.HasPrefix(r.Name, w.prefix) || r.Properties.Access != "Allow" {
			continue
		}
		for _, s := range append(r.Properties.SourceAddressPrefixes, r.Properties.SourceAddressPrefix) {
			for _, d := range append(r.Properties.DestinationAddressPrefixes, r.Properties.DestinationAddressPrefix) {
				if s != "" && d != "" {
					open[strings.TrimSuffix(s, "/32")+">"+strings.TrimSuffix(d, "/32")] = true
				}
			}
		}
	}
	return open, doc.Properties.ProvisioningState == "Succeeded", nil
}

func (w *watch) allOpen(context.Context) (bool, string, error) {
	open, quiet, err := w.doors()
	missing := 0
	for i := range w.grants {
		if !open[source(i)+">"+address(i%w.machines)] {
			missing++
		}
	}
	return err == nil && quiet && missing == 0, fmt.Sprintf("%d are not open", missing), err
}

func (w *watch) allClosed(context.Context) (bool, string, error) {
	open, quiet, err := w.doors()
	return err == nil && quiet && len(open) == 0, fmt.Sprintf("%d are open", len(open)), err
}

// recorded looks at the live legs of the group.
func (w *watch) recorded(so func([]access.Leg) bool) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		legs, err := w.store.Legs(ctx, w.group)
		return err == nil && so(legs), fmt.Sprintf("%d legs are recorded", len(legs)), err
	}
}

// told asks the access API about every request, as their senders would.
func (w *watch) told(ctx context.Context, ids []string, want access.Status) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(tellAtOnce)
	for _, id := range ids {
		g.Go(func() error {
			v, err := w.view(gctx, id)
			if err != nil {
				return err
			}
			if len(v.VirtualMachines) != 1 || len(v.VirtualMachines[0].Ports) != 1 || v.VirtualMachines[0].Ports[0].Status != want {
				return fmt.Errorf("request %s should be %s, and is %+v", id, want, v)
			}
			return nil
		})
	}
	return g.Wait()
}

// tellAtOnce is how many requests are asked about side by side.
const tellAtOnce = 16

func (w *watch) view(ctx context.Context, id string) (v accessjson.RequestView, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.Env()["FUNCTIONS_ENDPOINT"]+"/api/access-requests/"+id+"?channel=queue", nil)
	if err != nil {
		return v, err
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the access API answered %s: %s", res.Status, body)
	}
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(body, &v)
}
