package main

import (
	"context"

	"github.com/portcullis-access/portcullis/internal/doctor"
	"github.com/portcullis-access/portcullis/pkg/azure/rights"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
)

// busOf and rightsOf give what the adapters read in the examination's own words.
type busOf struct{ *servicebus.Entities }

func (b busOf) Queue(ctx context.Context, name string) (doctor.Entity, error) {
	e, err := b.Entities.Queue(ctx, name)
	return doctor.Entity(e), err
}

func (b busOf) Subscription(ctx context.Context, topic, name string) (doctor.Entity, error) {
	e, err := b.Entities.Subscription(ctx, topic, name)
	return doctor.Entity(e), err
}

type rightsOf struct{ *rights.Reader }

func (r rightsOf) Rights(ctx context.Context, scope, principal string) ([]doctor.Right, error) {
	return inItsWords(r.Reader.Rights(ctx, scope, principal))
}

func (r rightsOf) RightsWithin(ctx context.Context, scope, principal string) ([]doctor.Right, error) {
	return inItsWords(r.Reader.RightsWithin(ctx, scope, principal))
}

func inItsWords(all []rights.Right, err error) (out []doctor.Right, _ error) {
	for _, one := range all {
		out = append(out, doctor.Right(one))
	}
	return out, err
}

func (r rightsOf) Locks(ctx context.Context, scope string) (out []doctor.Lock, err error) {
	all, err := r.Reader.Locks(ctx, scope)
	for _, one := range all {
		out = append(out, doctor.Lock(one))
	}
	return out, err
}
