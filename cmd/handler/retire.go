package main

import (
	"context"
	"log/slog"
)

// scanning is what the function Scan does: it scans, and then retires what is old.
// That the latter fails is no failure of the scan: what it has not done stands in
// the index, and the next run finds it there.
func scanning(scan, retire func(context.Context) error, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		err := scan(ctx)
		if e := retire(ctx); e != nil {
			log.ErrorContext(ctx, "old requests were not retired: left to the next run", "error", e)
		}
		return err
	}
}
