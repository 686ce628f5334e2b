package handlers

import (
	"context"

	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// Timer handles a timer's tick: Sweep's, Scan's and Anchor's.
func Timer(work func(context.Context) error) customhandler.Function {
	return func(ctx context.Context, _ customhandler.Invocation) error { return work(ctx) }
}
