package main

import (
	"context"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
)

// anchoring is what the function Anchor does: nothing where no container is
// configured. docs/audit.md says what is not proven then.
func anchoring(cfg config.Config, journal broker.JournalReader, clock broker.Clock) (func(context.Context) error, error) {
	if cfg.AnchorsURL == "" {
		return func(context.Context) error { return nil }, nil
	}
	container, err := connect.Anchors(cfg.AnchorsURL, cfg.Tables)
	if err != nil {
		return nil, err
	}
	anchorer, err := broker.NewAnchorer(broker.AnchorPorts{Journal: journal, Anchors: container, Clock: clock, Installation: cfg.Rules.Installation})
	if err != nil {
		return nil, err
	}
	return anchorer.Anchor, nil
}
