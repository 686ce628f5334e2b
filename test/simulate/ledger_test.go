package simulate

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

func (p store) Head(ctx context.Context, id access.ResourceID) (broker.Head, error) {
	return ask(p.s, ctx, theStore, "Head", string(id), func() (broker.Head, error) { return p.in.Head(ctx, id) })
}

func (p store) SaveHead(ctx context.Context, h broker.Head) (broker.Head, error) {
	return ask(p.s, ctx, theStore, "SaveHead", string(h.NSG), func() (broker.Head, error) { return p.in.SaveHead(ctx, h) })
}

func (p store) Legs(ctx context.Context, id access.ResourceID) ([]access.Leg, error) {
	return ask(p.s, ctx, theStore, "Legs", string(id), func() ([]access.Leg, error) { return p.in.Legs(ctx, id) })
}

func (p store) AddLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	return p.change(ctx, "AddLegs"+keys(legs), id, func() error { return p.in.AddLegs(ctx, id, legs, token, due) })
}

func (p store) UpdateLegs(ctx context.Context, id access.ResourceID, legs []access.Leg) error {
	return p.change(ctx, "UpdateLegs"+keys(legs), id, func() error { return p.in.UpdateLegs(ctx, id, legs) })
}

func (p store) ChangeLegs(ctx context.Context, id access.ResourceID, legs []access.Leg, token string, due time.Time) error {
	return p.change(ctx, "ChangeLegs"+keys(legs), id, func() error { return p.in.ChangeLegs(ctx, id, legs, token, due) })
}

// EndLegs is as many calls as rows: the ended ones first, then the live ones go.
func (p store) EndLegs(ctx context.Context, id access.ResourceID, legs []access.Leg) error {
	a := ctx.Value(actorKey{}).(*actor)
	for _, l := range legs {
		if err := p.change(ctx, "EndLegs, kept "+l.Key(), id, func() error {
			p.ends(a, l)
			return p.in.KeepEnded(ctx, l)
		}); err != nil {
			return err
		}
	}
	for _, l := range legs {
		if err := p.change(ctx, "EndLegs, removed "+l.Key(), id, func() error { return p.in.RemoveLeg(ctx, id, l) }); err != nil {
			return err
		}
	}
	return nil
}

func (p store) Touch(ctx context.Context, id access.ResourceID, token string, due time.Time) error {
	return p.change(ctx, "Touch", id, func() error { return p.in.Touch(ctx, id, token, due) })
}

func (p store) change(ctx context.Context, name string, id access.ResourceID, effect func() error) error {
	return do(p.s, ctx, theStore, name, string(id), func() error {
		p.changed()
		return effect()
	})
}

func (p store) Partition(ctx context.Context, id access.ResourceID) ([]access.Leg, []access.Baseline, error) {
	a := ctx.Value(actorKey{}).(*actor)
	v, err := ask(p.s, ctx, theStore, "Partition", string(id), func() (two[[]access.Leg, []access.Baseline], error) {
		legs, rows, err := p.in.Partition(ctx, id)
		p.read(a, id, legs, rows)
		return two[[]access.Leg, []access.Baseline]{legs, rows}, err
	})
	return v.a, v.b, err
}

func (p store) SaveBaselines(ctx context.Context, id access.ResourceID, rows []access.Baseline, token string, due time.Time) error {
	return p.change(ctx, "SaveBaselines", id, func() error { return p.in.SaveBaselines(ctx, id, rows, token, due) })
}

func (p store) EndBaselines(ctx context.Context, id access.ResourceID, rows []access.Baseline) error {
	return p.change(ctx, "EndBaselines", id, func() error { return p.in.EndBaselines(ctx, id, rows) })
}

func (p store) Due(ctx context.Context, now time.Time) ([]broker.Head, error) {
	return ask(p.s, ctx, theStore, "Due", "", func() ([]broker.Head, error) { return p.in.Due(ctx, now) })
}

func (p store) All(ctx context.Context) ([]broker.Head, error) {
	return ask(p.s, ctx, theStore, "All", "", func() ([]broker.Head, error) { return p.in.All(ctx) })
}

func (p store) ForgetHead(ctx context.Context, h broker.Head) error {
	return p.change(ctx, "ForgetHead", h.NSG, func() error { return p.in.ForgetHead(ctx, h) })
}

// keys tells the legs of one call from those of another.
func keys(legs []access.Leg) (out string) {
	for _, l := range legs {
		out += " " + l.Key()
	}
	return out
}
