package client

import (
	"encoding/json"
	"time"
)

// Answer is what a call gave, with the document as it came.
type Answer[T any] struct {
	Value T
	Raw   json.RawMessage
	ETag  string
}

// List is a list over as many pages as were read.
type List[T any] struct {
	Items []T
	Raw   []json.RawMessage // of each item, as it came
	More  bool              // there is more than was asked for
}

// Me is who calls.
type Me struct {
	Name     string   `json:"name"`
	ObjectID string   `json:"objectId"`
	Roles    []string `json:"roles"`
	Address  string   `json:"address"`
}

// Port is a port that a policy has, or that enabling suggests.
type Port struct {
	Number   int      `json:"number"`
	Protocol string   `json:"protocol"`
	Sources  []string `json:"allowedSourceAddressPrefixes"`
	Max      string   `json:"maxRequestAccessDuration"`
}

// Machine is a virtual machine as it stood at AsOf.
type Machine struct {
	ID             string    `json:"id"`
	Name           string    `json:"name"`
	ResourceGroup  string    `json:"resourceGroup"`
	SubscriptionID string    `json:"subscriptionId"`
	OSType         string    `json:"osType"`
	Status         string    `json:"status"` // Configured, NotConfigured, Unsupported
	Reason         string    `json:"reason"`
	PolicyScope    string    `json:"policyScope"`
	Ports          []Port    `json:"ports"`
	SuggestedPorts []Port    `json:"suggestedPorts"`
	MayRequest     bool      `json:"mayRequest"`
	Exposure       Exposure  `json:"exposure"`
	Baseline       Baseline  `json:"baseline"`
	Approved7d     int       `json:"approvedRequests7d"`
	LastAccess     time.Time `json:"lastAccess"`
	LastUser       string    `json:"lastUser"`
	AsOf           time.Time `json:"asOf"`
}

// Exposure says whether a management port is open to the internet: Exposed,
// Shut, or Unknown, and by which rule.
type Exposure struct {
	Status string `json:"status"`
	Port   int    `json:"port"`
	Rule   string `json:"rule"`
	NSG    string `json:"nsg"`
	Why    string `json:"why"`
}

// Baseline is how far our deny rules are: Shut, Shutting, Lifting, Blocked or None.
type Baseline struct {
	Status    string `json:"status"`
	BlockedBy string `json:"blockedBy"`
}

// NewRequest asks for access.
type NewRequest struct {
	Requestor       string      `json:"requestor,omitempty"` // "" is the caller
	Justification   string      `json:"justification,omitempty"`
	Ticket          string      `json:"ticket,omitempty"`
	StartTimeUTC    time.Time   `json:"startTimeUtc,omitzero"` // zero is at once
	VirtualMachines []NewTarget `json:"virtualMachines"`
}

// NewTarget is one machine of a request.
type NewTarget struct {
	ID    string    `json:"id"`
	Ports []NewPort `json:"ports"`
}

// NewPort is one port of a request: from a source ("" is the caller's address),
// for an ISO 8601 duration or until a time.
type NewPort struct {
	Number     int       `json:"number"`
	Protocol   string    `json:"protocol,omitempty"`
	Source     string    `json:"allowedSourceAddressPrefix,omitempty"`
	Duration   string    `json:"duration,omitempty"`
	EndTimeUTC time.Time `json:"endTimeUtc,omitzero"`
}

// AccessRequest is a request with what became of it.
type AccessRequest struct {
	ID              string    `json:"id"`
	ClientRequestID string    `json:"clientRequestId"`
	Outcome         string    `json:"outcome"` // Accepted, Refused
	Requestor       string    `json:"requestor"`
	RequestedBy     string    `json:"requestedBy"`
	Channel         string    `json:"channel"`
	Justification   string    `json:"justification"`
	Ticket          string    `json:"ticket"`
	StartTimeUTC    time.Time `json:"startTimeUtc"`
	Extends         string    `json:"extends"`
	ExtendedBy      string    `json:"extendedBy"`
	VirtualMachines []Target  `json:"virtualMachines"`
	Refusal         *Refusal  `json:"refusal"`
}

// Refusal says why a request was refused.
type Refusal struct {
	Code       string      `json:"code"`
	Reason     string      `json:"reason"`
	Message    string      `json:"message"`
	Violations []Violation `json:"violations"`
}

// Target is one machine of a request.
type Target struct {
	ID    string        `json:"id"`
	Ports []GrantedPort `json:"ports"`
}

// GrantedPort is one port of a request, with its status: Scheduled, Initiating,
// Initiated, Revoked or Failed; "" in a request that was refused.
type GrantedPort struct {
	Index        int       `json:"index"` // the grant's place in the request
	Number       int       `json:"number"`
	Protocol     string    `json:"protocol"`
	Source       string    `json:"allowedSourceAddressPrefix"`
	EndTimeUTC   time.Time `json:"endTimeUtc"`
	Status       string    `json:"status"`
	StatusReason string    `json:"statusReason"`
	BlockedBy    string    `json:"blockedBy"`
	OpenedAtUTC  time.Time `json:"openedAtUtc"`
	EndedAtUTC   time.Time `json:"endedAtUtc"`
}

// Event is one thing that happened to a request.
type Event struct {
	Kind   string            `json:"kind"`
	At     time.Time         `json:"at"`
	Actor  string            `json:"actor"`
	Detail map[string]string `json:"detail"`
}

// Change is what changing a policy does, or would do.
type Change struct {
	Policy           json.RawMessage `json:"policy"`
	NotAllowedGrants []NotAllowed    `json:"notAllowedGrants"`
	Machines         []MachineChange `json:"machines"`
}

// NotAllowed is a live grant that the policy does not allow any more.
type NotAllowed struct {
	RequestID      string    `json:"requestId"`
	Index          int       `json:"index"`
	VirtualMachine string    `json:"virtualMachine"`
	Port           int       `json:"port"`
	Requestor      string    `json:"requestor"`
	EndTimeUTC     time.Time `json:"endTimeUtc"`
	Why            []string  `json:"why"`
}

// MachineChange is what is written for one machine, by network security group.
type MachineChange struct {
	ID          string        `json:"id"`
	Groups      []GroupChange `json:"networkSecurityGroups"`
	Unsupported string        `json:"unsupported"`
}

// GroupChange is what is written to one network security group, and what the
// customer's own rules there let past, block, or no longer reach.
type GroupChange struct {
	ID        string   `json:"id"`
	Put       []Rule   `json:"put"`
	Remove    []string `json:"remove"`
	Past      []Advice `json:"past"`
	Blocking  []Advice `json:"blocking"`
	CutOff    []CutOff `json:"cutOff"`
	BlockedBy string   `json:"blockedBy"`
}

// Rule is a rule of ours as it is written.
type Rule struct {
	Name         string   `json:"name"`
	Priority     int      `json:"priority"`
	Access       string   `json:"access"`
	Protocol     string   `json:"protocol"`
	Sources      []string `json:"sources"`
	Destinations []string `json:"destinations"`
	Ports        []string `json:"ports"`
}

// Advice names a rule of the customer's, and what to do about it.
type Advice struct {
	Rule     string `json:"rule"`
	Priority int    `json:"priority"`
	Advice   string `json:"advice"`
}

// CutOff names what a baseline would cut off, and what to do about it.
type CutOff struct {
	What   string `json:"what"`
	Advice string `json:"advice"`
}

// Lockdown says whether every door is closed, by whom and why.
type Lockdown struct {
	Active bool      `json:"active"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// StandingSource is a ticketing source with the state of the secrets it names.
type StandingSource struct {
	Source  json.RawMessage  `json:"source"`
	Webhook string           `json:"webhook"` // the path to which it sends
	Secrets []SecretStanding `json:"secrets"`
}

// SecretStanding says whether an app setting holds a secret: set, missing or
// unresolved.
type SecretStanding struct {
	Name  string `json:"name"`
	State string `json:"state"`
}
