package broker

import (
	"context"
	"errors"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// SourcePorts are what SourceDesk needs.
type SourcePorts struct {
	Sources Sources
	Events  Events
	// Secret says of an app setting whether it holds a secret, and never which.
	Secret func(name string) SecretState
	Clock  Clock
	Token  func() string
}

// SourceDesk keeps the ticketing sources.
type SourceDesk struct{ SourcePorts }

// NewSourceDesk makes a SourceDesk; every port is required.
func NewSourceDesk(p SourcePorts) (*SourceDesk, error) {
	if p.Sources == nil || p.Events == nil || p.Secret == nil || p.Clock == nil || p.Token == nil {
		return nil, errors.New("broker: a port of the source desk is missing")
	}
	return &SourceDesk{p}, nil
}

// StandingSource is a source with the state of the secrets that it names.
type StandingSource struct {
	Source  ticket.Source
	Secrets []SecretStanding
}

// SecretStanding is the state of one app setting.
type SecretStanding struct {
	Name  string
	State SecretState
}

// List gives every source. Role: to read all, or to administer.
func (d *SourceDesk) List(ctx context.Context, by access.Caller) ([]StandingSource, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return nil, err
	}
	all, err := d.Sources.ListSources(ctx)
	var out []StandingSource
	for _, s := range all {
		out = append(out, d.standing(s))
	}
	return out, err
}

// Get gives the source of the name. Role: to read all, or to administer. Error
// not_found, source_unknown.
func (d *SourceDesk) Get(ctx context.Context, by access.Caller, name string) (StandingSource, error) {
	if err := by.Need(access.RoleReadAll); err != nil {
		return StandingSource{}, err
	}
	s, err := d.get(ctx, name)
	return d.standing(s), err
}

func (d *SourceDesk) get(ctx context.Context, name string) (ticket.Source, error) {
	if !ticket.ValidName(name) {
		return ticket.Source{}, sourceUnknown(name)
	}
	s, err := d.Sources.Source(ctx, name)
	if access.CodeOf(err) == access.NotFound {
		return s, sourceUnknown(name)
	}
	return s, err
}

func sourceUnknown(name string) error {
	return access.Errorf(access.NotFound, "source_unknown", "there is no source %.40q", name)
}

func (d *SourceDesk) standing(s ticket.Source) StandingSource {
	out := StandingSource{Source: s}
	for _, name := range s.Secrets {
		out.Secrets = append(out.Secrets, SecretStanding{name, d.Secret(name)})
	}
	return out
}

// Put stores a source in place of the version that stands ("" for none), once its
// expressions compile and make an event of its sample. It is heard from then on.
// Role: to administer. Errors, beside those of [ticket.Source.Validate]:
// condition_failed, source_changed.
//
// The event is written first: what is cut off then is told, and did not happen.
func (d *SourceDesk) Put(ctx context.Context, by access.Caller, s ticket.Source, version string) (StandingSource, error) {
	if err := by.Need(access.RoleAdminister); err != nil {
		return StandingSource{}, err
	}
	if err := s.Validate(); err != nil {
		return StandingSource{}, err
	}
	before, err := d.version(ctx, s.Name, version)
	if err != nil {
		return StandingSource{}, err
	}
	e, err := d.event(access.EventSourceChanged, by, before, s)
	if err != nil {
		return StandingSource{}, err
	}
	if err := d.Events.Append(ctx, []access.Event{e}); err != nil {
		return StandingSource{}, err
	}
	s, err = d.Sources.SaveSource(ctx, s, version)
	return d.standing(s), err
}

// Delete removes the version of a source. From the next delivery on it is not
// heard any more; what its tickets vouched for stays until it ends. Role: to
// administer. Errors: not_found, source_unknown; condition_failed, source_changed.
func (d *SourceDesk) Delete(ctx context.Context, by access.Caller, name, version string) error {
	if err := by.Need(access.RoleAdminister); err != nil {
		return err
	}
	if _, err := d.get(ctx, name); err != nil {
		return err
	}
	before, err := d.version(ctx, name, version)
	if err != nil {
		return err
	}
	e, err := d.event(access.EventSourceRemoved, by, before, ticket.Source{Name: name})
	if err != nil {
		return err
	}
	if err := d.Events.Append(ctx, []access.Event{e}); err != nil {
		return err
	}
	return d.Sources.DeleteSource(ctx, name, version)
}

// version gives the source that stands, if it is the version that is meant.
func (d *SourceDesk) version(ctx context.Context, name, version string) (ticket.Source, error) {
	s, err := d.Sources.Source(ctx, name)
	if err != nil && access.CodeOf(err) != access.NotFound {
		return s, err
	}
	if s.Version != version {
		return s, access.Errorf(access.ConditionFailed, "source_changed", "somebody else has changed the source: read it again, and apply your change to what it is now")
	}
	return s, nil
}

// maxToldSource bounds a document in an event, in bytes: past it the users are left out.
const maxToldSource = 64 << 10

// event tells of a change, with the documents before and after but for their
// samples. A source without a kind is none.
func (d *SourceDesk) event(kind access.EventKind, by access.Caller, before, after ticket.Source) (access.Event, error) {
	now := d.Clock().UTC()
	e := access.Event{
		Subject: "source/" + after.Name, Kind: kind, At: now, Actor: by.Name, Key: now.Format(time.RFC3339Nano) + "-" + d.Token(),
		Detail: map[string]string{"source": after.Name, "version": before.Version, "actorObjectId": by.ObjectID},
	}
	for name, s := range map[string]ticket.Source{"before": before, "after": after} {
		if s.Kind == "" {
			continue
		}
		s.Sample = nil
		data, err := ticket.EncodeSource(s)
		if err == nil && len(data) > maxToldSource {
			s.Users = nil
			data, err = ticket.EncodeSource(s)
		}
		if err != nil {
			return e, err
		}
		e.Detail[name] = string(data)
	}
	return e, nil
}
