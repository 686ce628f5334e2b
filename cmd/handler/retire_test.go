package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

func TestRetiringComesAfterTheScanAndFailsItNever(t *testing.T) {
	failed := errors.New("it failed")
	for _, of := range []struct{ scan, retire error }{{}, {failed, nil}, {nil, errors.New("another")}, {failed, errors.New("another")}} {
		order := ""
		work := scanning(
			func(context.Context) error { order += "scan "; return of.scan },
			func(context.Context) error { order += "retire"; return of.retire },
			slog.New(slog.DiscardHandler))
		if err := work(t.Context()); !errors.Is(err, of.scan) || order != "scan retire" {
			t.Errorf("%+v: %v, %s", of, err, order)
		}
	}
}
