package handlers

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// Machines shows virtual machines: a broker.Discoverer.
type Machines interface {
	Machines(ctx context.Context, by access.Caller, q broker.MachineQuery) (broker.MachineList, error)
	Machine(ctx context.Context, by access.Caller, id access.ResourceID, address netip.Addr) (broker.MachineView, error)
}

func (a *AccessAPI) machineRoutes() {
	a.on("GET /api/machines", a.listMachines)
	a.on("GET /api/machines/{s}/{g}/{v}", a.getMachine)
}

// machineView is a machine as the API shows it.
type machineView struct {
	ID             access.ResourceID    `json:"id"`
	Name           string               `json:"name"`
	ResourceGroup  string               `json:"resourceGroup"`
	SubscriptionID string               `json:"subscriptionId"`
	OS             string               `json:"osType,omitempty"`
	Status         broker.MachineStatus `json:"status"`
	Reason         string               `json:"reason,omitempty"`
	PolicyScope    access.ResourceID    `json:"policyScope,omitempty"`
	Ports          []portView           `json:"ports"`
	Suggested      []portView           `json:"suggestedPorts"`
	MayRequest     bool                 `json:"mayRequest"`
	Justification  bool                 `json:"requireJustification"`
	Ticket         bool                 `json:"requireTicket"`
	Exposure       exposureView         `json:"exposure"`
	Baseline       baselineView         `json:"baseline"`
	Approved       int                  `json:"approvedRequests7d"`
	LastAccess     time.Time            `json:"lastAccess,omitzero"`
	LastUser       string               `json:"lastUser,omitempty"`
	AsOf           time.Time            `json:"asOf"`
}

type portView struct {
	Number      int      `json:"number"`
	Protocol    string   `json:"protocol"`
	Sources     []string `json:"allowedSourceAddressPrefixes"`
	MaxDuration string   `json:"maxRequestAccessDuration"`
}

type exposureView struct {
	Status string            `json:"status"`
	Port   int               `json:"port,omitempty"`
	Rule   string            `json:"rule,omitempty"`
	NSG    access.ResourceID `json:"nsg,omitempty"`
	Why    string            `json:"why,omitempty"`
}

type baselineView struct {
	Status    broker.BaselineStatus `json:"status"`
	BlockedBy string                `json:"blockedBy,omitempty"`
}

func viewOf(m broker.MachineView) machineView {
	return machineView{
		ID: m.ID, Name: m.Name, ResourceGroup: m.ID.ResourceGroup(), SubscriptionID: m.ID.Subscription(), OS: m.OS, Status: m.Status, Reason: m.Reason,
		PolicyScope: m.Scope, Ports: portViews(m.Ports), Suggested: portViews(m.Suggested), MayRequest: m.MayRequest,
		Justification: m.RequireJustification, Ticket: m.RequireTicket,
		Exposure: exposureView{string(m.Exposure.Status), int(m.Exposure.Port), m.Exposure.Rule, m.Exposure.NSG, m.Exposure.Why},
		Baseline: baselineView{m.Baseline, m.BlockedBy}, Approved: m.Approved, LastAccess: m.LastAccess, LastUser: m.LastUser, AsOf: m.AsOf.UTC(),
	}
}

func portViews(ports []policy.Port) []portView {
	out := []portView{}
	for _, p := range ports {
		v := portView{int(p.Number), string(p.Protocol), []string{}, access.FormatDuration(p.MaxDuration)}
		for _, s := range p.Sources {
			v.Sources = append(v.Sources, access.FormatPrefix(s))
		}
		out = append(out, v)
	}
	return out
}

// listMachines handles GET /api/machines.
func (a *AccessAPI) listMachines(r *http.Request, by access.Caller) (answer, error) {
	query := r.URL.Query()
	status, err := broker.ParseMachineStatus(query.Get("status"))
	if err != nil {
		return answer{}, err
	}
	size, err := pageSize(query)
	if err != nil {
		return answer{}, err
	}
	address, _ := clientAddress(r)
	list, err := a.Machines.Machines(r.Context(), by, broker.MachineQuery{
		Subscription: query.Get("subscriptionId"), ResourceGroup: query.Get("resourceGroup"), Status: status, Address: address,
		Size: size, After: query.Get("continuationToken"),
	})
	if err != nil {
		return answer{}, err
	}
	items := []machineView{}
	for _, m := range list.Items {
		items = append(items, viewOf(m))
	}
	return page(r, items, list.Next), nil
}

// getMachine handles GET /api/machines/{subscription}/{group}/{name}.
func (a *AccessAPI) getMachine(r *http.Request, by access.Caller) (answer, error) {
	id, err := access.ParseVM("/subscriptions/" + r.PathValue("s") + "/resourceGroups/" + r.PathValue("g") +
		"/providers/Microsoft.Compute/virtualMachines/" + r.PathValue("v"))
	if err != nil {
		return answer{}, err
	}
	address, _ := clientAddress(r)
	m, err := a.Machines.Machine(r.Context(), by, id, address)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, viewOf(m), nil}, nil
}

// pageSize reads how many items a list is to give; 0 is the use case's choice.
func pageSize(query url.Values) (int, error) {
	text := query.Get("pageSize")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > broker.MaxPageSize {
		return 0, access.Errorf(access.InvalidArgument, "page_size_invalid", "pageSize is 1 to %d", broker.MaxPageSize)
	}
	return n, nil
}

// page is a list with the address where it goes on: the same call, with a token.
func page[T any](r *http.Request, items []T, next string) answer {
	body := struct {
		Items    []T    `json:"items"`
		NextLink string `json:"nextLink,omitempty"`
	}{Items: items}
	if next != "" {
		query := r.URL.Query()
		query.Set("continuationToken", next)
		body.NextLink = r.URL.Path + "?" + query.Encode()
	}
	return answer{http.StatusOK, body, nil}
}
