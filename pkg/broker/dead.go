package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// promptAgainAfter keeps a prompt that keeps dying from spinning.
const promptAgainAfter = 30 * time.Second

// DeadLetters records messages that could not be processed, and sees to it
// that none of them leaves a door open.
type DeadLetters struct {
	events  Events
	outbox  Outbox
	legs    LegWriter
	prompts Prompts
	clock   Clock
	token   func() string
	log     *slog.Logger
	meter   Meter
}

// NewDeadLetters makes a DeadLetters; every port is required.
func NewDeadLetters(events Events, outbox Outbox, legs LegWriter, prompts Prompts, clock Clock, token func() string, log *slog.Logger, meter Meter) (*DeadLetters, error) {
	if events == nil || outbox == nil || legs == nil || prompts == nil || clock == nil || token == nil || log == nil || meter == nil {
		return nil, errors.New("broker: a port of the dead letters is missing")
	}
	return &DeadLetters{events, outbox, legs, prompts, clock, token, log, meter}, nil
}

// Request records a request message that could not be processed and hands it
// on to access-rejected, where an operator finds it. What of it had been
// recorded already is completed by Sweep.
func (d *DeadLetters) Request(ctx context.Context, sender access.Sender, messageID, bodyHash string, body []byte) error {
	id := access.NewRequestID(sender, messageID)
	d.log.ErrorContext(ctx, "ALARM dead request message", "alarm", "dead_request", "messageId", messageID, "request", id)
	d.meter.Measure(ctx, MetricDead, 1, sender.Principal)
	refusal := access.Refusal{Code: access.Unavailable, Reason: "undeliverable", Message: "the message could not be processed in all its attempts; send it again once the service is well"}
	if err := d.events.Append(ctx, []access.Event{{
		Subject: string(id), Kind: access.EventDeadLettered, At: d.clock().UTC(), Actor: "portcullis", Key: bodyHash,
		Detail: map[string]string{"messageId": messageID, "bodyHash": bodyHash},
	}}); err != nil {
		return err
	}
	return d.outbox.Reject(ctx, Rejection{
		MessageID: messageID, RequestID: id, Refusal: refusal, BodyHash: bodyHash, Excerpt: body[:min(len(body), MaxExcerpt)],
	})
}

// Prompt records a dead reconcile prompt and prompts again, a little later;
// Sweep looks at the NSG in any case.
func (d *DeadLetters) Prompt(ctx context.Context, nsg access.ResourceID, messageID string) error {
	now := d.clock().UTC()
	d.log.ErrorContext(ctx, "ALARM dead reconcile prompt", "alarm", "dead_prompt", "nsg", nsg, "messageId", messageID)
	d.meter.Measure(ctx, MetricDead, 1, "nsg-reconcile")
	if err := d.legs.Touch(ctx, nsg, d.token(), now); err != nil {
		return err
	}
	if err := d.prompts.Prompt(ctx, nsg, now.Add(promptAgainAfter)); err != nil {
		return err
	}
	return d.events.Append(ctx, []access.Event{{
		Subject: string(nsg), Kind: access.EventDeadLettered, At: now, Actor: "portcullis", Key: messageID,
		Detail: map[string]string{"messageId": messageID},
	}})
}
