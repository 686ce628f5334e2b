// Package broker holds the use cases of Portcullis (Submit, Reconcile, Sweep,
// Scan, …) and the ports they need. It depends on the domain alone; what
// stands behind a port is wired by a main.
//
// Every use case is idempotent, may be cut off anywhere and be repeated.
package broker

import (
	"context"
	"net/netip"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/nsg"
	"github.com/portcullis-access/portcullis/pkg/policy"
)

// Clock tells the time. It is the only source of it in this package.
type Clock func() time.Time

// Policies reads access policies.
type Policies interface {
	// PoliciesFor gives the policies stored at any of the VM's scopes (itself,
	// its resource group, its subscription), in no particular order; none is an
	// empty slice. A policy that cannot be read or parsed is an error, never
	// left out: leaving it out would let a wider scope decide.
	// Errors: unavailable; internal for a stored policy that does not parse.
	PoliciesFor(ctx context.Context, vm access.ResourceID) ([]policy.AccessPolicy, error)
}

// PolicyStore keeps access policies.
type PolicyStore interface {
	// ListPolicies gives the policies of a subscription ("" for every one there
	// is), by scope, disabled ones too. One that cannot be read is an error.
	ListPolicies(ctx context.Context, subscription string) ([]policy.AccessPolicy, error)
	// GetPolicy gives the policy that stands at the scope. Error not_found.
	GetPolicy(ctx context.Context, scope access.ResourceID) (policy.AccessPolicy, error)
	// SavePolicy stores the policy in place of the version ("" for none) and gives
	// it with its new one. Error condition_failed, policy_changed, when another stands there.
	SavePolicy(ctx context.Context, p policy.AccessPolicy, version string) (policy.AccessPolicy, error)
	// DeletePolicy removes that version; one already gone is no error.
	DeletePolicy(ctx context.Context, scope access.ResourceID, version string) error
}

// Requests is the record of requests: one partition per request holding its
// record, its ended legs and its events; and pending/<id> apart from them.
type Requests interface {
	// Begin writes pending/<id> if neither it nor the request's record exists,
	// and gives what is stored: rec itself when it was written, otherwise the
	// earlier decision under this id. pending tells whether pending/<id> exists
	// now, so that whoever asks can finish what was cut off.
	Begin(ctx context.Context, rec access.Record) (stored access.Record, pending bool, err error)
	// Keep writes the request's record and its first events in one transaction,
	// and gives the record that stands: rec itself, or the one kept earlier under
	// its id, which stays as it is.
	Keep(ctx context.Context, rec access.Record, events []access.Event) (stored access.Record, err error)
	// Finish removes pending/<id>; one already gone is no error.
	Finish(ctx context.Context, id access.RequestID) error
	// Find gives the decision under id, looking at the record and then at
	// pending/<id>. Errors: not_found, unavailable.
	Find(ctx context.Context, id access.RequestID) (rec access.Record, pending bool, err error)
}

// PendingRequests lists what Submit left unfinished.
type PendingRequests interface {
	// Pending gives the decisions under pending/ made before the time. One that
	// cannot be read is an error and does not keep the others back.
	Pending(ctx context.Context, before time.Time) ([]access.Record, error)
}

// Head is the first row of an NSG's partition: what is wanted, what was done,
// and when somebody must look next.
type Head struct {
	NSG access.ResourceID
	// Wanted changes with every change of the legs; Done is the Wanted that the
	// last complete reconcile had read before it read the legs.
	Wanted, Done string
	// DueAt is when a reconcile is due whatever Wanted and Done say; zero for never.
	DueAt time.Time
	// AsOf is the latest time by which anybody acted; the clock never runs
	// behind it.
	AsOf time.Time
	// Trouble says, for a person, why the last reconcile could not do its work.
	Trouble string
	// Whole says that the requests were searched for legs that the record of the NSG
	// may have lost. A head that is made anew says so only after that.
	Whole bool
	// At is when it was written last, by the store's own clock, as far as it was read.
	At time.Time
	// ETag is the version that was read; "" for a head that does not exist.
	ETag string
}

// Ledger holds one partition per NSG: its head and its live legs.
type Ledger interface {
	// Head gives the NSG's head; one never written is a Head with only NSG set.
	Head(ctx context.Context, nsg access.ResourceID) (Head, error)
	// SaveHead writes the head under its ETag (an insert when that is empty) and
	// gives it back with its new ETag. Error aborted when somebody else was first.
	SaveHead(ctx context.Context, h Head) (Head, error)
	// Legs gives the live legs of the NSG, each with its ETag.
	Legs(ctx context.Context, nsg access.ResourceID) ([]access.Leg, error)
	// AddLegs inserts those of the legs that are not there, and in the same
	// transaction sets the head's Wanted to token and DueAt to due, whatever
	// version the head has. A leg that exists stays as it is. At most MaxPorts.
	AddLegs(ctx context.Context, nsg access.ResourceID, legs []access.Leg, token string, due time.Time) error
}

// LegFinder is a Ledger that finds the legs of one request without reading all of
// an NSG's.
type LegFinder interface {
	// LegsOf gives those of the NSG's live legs that are the request's, as Legs does.
	LegsOf(ctx context.Context, nsg access.ResourceID, request access.RequestID) ([]access.Leg, error)
}

// LegWriter changes legs that exist.
type LegWriter interface {
	// UpdateLegs writes legs of one NSG, each under its ETag, in transactions of
	// at most 100. Error aborted when a leg was changed or removed since; the
	// caller reads again. An error may leave earlier transactions done.
	UpdateLegs(ctx context.Context, nsg access.ResourceID, legs []access.Leg) error
	// ChangeLegs is UpdateLegs, and in the same transactions sets the head's Wanted
	// to token and DueAt to due, so that a change which somebody must see is never
	// there without being asked for.
	ChangeLegs(ctx context.Context, nsg access.ResourceID, legs []access.Leg, token string, due time.Time) error
	// EndLegs writes each leg to its request's partition as an ended leg, then
	// removes it from the NSG's. Repeating it after a cut completes it; a leg
	// already gone from the NSG is no error; an ended leg already there stays.
	EndLegs(ctx context.Context, nsg access.ResourceID, legs []access.Leg) error
	// Touch sets the head's Wanted and DueAt whatever version it has.
	Touch(ctx context.Context, nsg access.ResourceID, token string, due time.Time) error
}

// Baselines holds the baselines, in the NSGs' partitions.
type Baselines interface {
	// Partition gives all that is wanted of an NSG, its live legs and its
	// baselines, each with its ETag, by one query.
	Partition(ctx context.Context, nsg access.ResourceID) ([]access.Leg, []access.Baseline, error)
	// SaveBaselines writes baselines of one NSG, each under its ETag (an insert
	// when that is empty), and with a token sets the head's Wanted and DueAt in the
	// same transaction. Error aborted when somebody else was first. At most 50.
	SaveBaselines(ctx context.Context, nsg access.ResourceID, rows []access.Baseline, token string, due time.Time) error
	// EndBaselines removes baselines, each under its ETag; one already gone is no
	// error, one that was changed is aborted.
	EndBaselines(ctx context.Context, nsg access.ResourceID, rows []access.Baseline) error
}

// Heads finds the NSGs that need somebody's attention.
type Heads interface {
	// Due gives the heads whose DueAt is not after now, and those that are put off:
	// with some Trouble and a DueAt still to come. One that came to trouble with its
	// DueAt staying in the same minute may be left out until then. A head that cannot
	// be read is an error and does not keep the others back.
	Due(ctx context.Context, now time.Time) ([]Head, error)
	// All gives every head there is, and errors as Due does.
	All(ctx context.Context) ([]Head, error)
}

// Events writes the append-only event rows. Here and wherever else events are
// written, a notice of their subject is written before them (see Notices).
type Events interface {
	// Append writes the events; one that exists stays as it is and is no error.
	Append(ctx context.Context, events []access.Event) error
}

// Machine is a VM with its ways in.
type Machine struct {
	ID       access.ResourceID
	Name     string
	UniqueID string // properties.vmId
	OS       string // Linux, Windows or "" where Azure does not say
	Location string // such as westeurope
	Tags     map[string]string
	NICs     []NIC
	// Unreadable says, for a person, why the ways in are not known; "" where they are.
	Unreadable string
}

// NIC is a network interface of a VM.
type NIC struct {
	ID        access.ResourceID
	Addresses []Address
	NSG       access.ResourceID // "" for none
}

// Address is a private address of a NIC in its subnet.
type Address struct {
	IP        netip.Addr
	Subnet    access.ResourceID
	SubnetNSG access.ResourceID // "" for none
	// AmbiguousOn names an NSG on the way in that is attached to another network
	// holding the same address, so that a rule for it would open that one too;
	// "" for none.
	AmbiguousOn access.ResourceID
	// Balanced are the backend pools and inbound NAT rules of load balancers that
	// the address is in.
	Balanced []access.ResourceID
}

// Machines resolves virtual machines.
type Machines interface {
	// Machine gives the VM as it was read not before notBefore; answers are
	// shared among callers. Errors: not_found for a VM that does not exist (or
	// whose NIC or subnet does not); unavailable.
	Machine(ctx context.Context, vm access.ResourceID, notBefore time.Time) (Machine, error)
}

// MachinePreparer is a Machines that can be told beforehand which machines it
// will be asked for.
type MachinePreparer interface {
	// Prepare may read the machines together, where that costs less; they are then
	// as read not before notBefore. It promises nothing: Machine reads what is
	// missing, and tells what fails.
	Prepare(ctx context.Context, machines []access.ResourceID, notBefore time.Time)
}

// MachineLister lists virtual machines.
type MachineLister interface {
	// List gives every VM of the subscription that our identity can read, each
	// with its ways in, read now. A VM whose ways in cannot be read comes with
	// Unreadable set, and is never left out.
	List(ctx context.Context, subscription string) ([]Machine, error)
}

// Groups reads and writes network security groups.
//
// Errors of the writes: aborted with reason precondition_failed (somebody
// wrote since the read), superseded (the operation was cancelled: the write
// may or may not have landed) or operation_in_progress; resource_exhausted with
// RetryAfter; failed_precondition with reason scope_locked (a lock forbids it)
// or priority_conflict; invalid_argument for what Resource Manager finds wrong
// with a rule; not_found; unavailable, reason azure_permission for a 403 on our
// own identity, with Resource Manager's own code in the message.
type Groups interface {
	// Group reads the NSG afresh.
	Group(ctx context.Context, id access.ResourceID) (nsg.Group, error)
	// Apply writes the whole group under g.ETag with plan applied, and waits
	// until Resource Manager is done. Everything else in g goes back as it came.
	Apply(ctx context.Context, g nsg.Group, plan nsg.Plan) error
	// DeleteRule removes one rule by a child call; one already gone is no error.
	DeleteRule(ctx context.Context, id access.ResourceID, name string) error
	// DenyRule turns one rule of ours into a Deny by a child call.
	DenyRule(ctx context.Context, id access.ResourceID, rule nsg.Rule) error
}

// GroupLister lists NSGs.
type GroupLister interface {
	// Groups gives every NSG of the subscription that our identity can read.
	Groups(ctx context.Context, subscription string) ([]nsg.Group, error)
}

// Prompts asks for a reconcile of an NSG.
type Prompts interface {
	// Prompt sends a message to the NSG's session on nsg-reconcile, delivered at
	// the time, or at once when it is zero. It returns once the message is kept.
	Prompt(ctx context.Context, nsg access.ResourceID, at time.Time) error
}

// Rejection is what goes to access-rejected about a message that was refused.
type Rejection struct {
	MessageID string
	RequestID access.RequestID
	Refusal   access.Refusal
	BodyHash  string
	Excerpt   []byte // at most MaxExcerpt bytes of the body
}

// MaxExcerpt bounds the excerpt of a rejected body, in bytes.
const MaxExcerpt = 32 << 10

// AttemptsProperty is the application property in which a request message that
// is sent again counts the attempts made at it.
const AttemptsProperty = "portcullis-attempts"

// RequestMessage is a message on access-requests that is to be tried again.
type RequestMessage struct {
	ID   string
	Body []byte
	// ContentType and Properties say what the body is; "" is application/json.
	ContentType string
	Properties  map[string]string
	Attempts    int // those made
}

// Outbox sends messages about requests.
type Outbox interface {
	// Reject sends the rejection to access-rejected.
	Reject(ctx context.Context, r Rejection) error
	// Retry sends a request message again, scheduled, as it was, with the count of
	// attempts made as a property besides.
	Retry(ctx context.Context, m RequestMessage, at time.Time) error
}
