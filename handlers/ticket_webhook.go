package handlers

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// WebhookPrefix begins the addresses of webhooks; the source's name follows.
const WebhookPrefix = "/webhooks/"

// answerWithin bounds a delivery: PagerDuty gives up after 5 s.
const answerWithin = 4 * time.Second

// Sources finds the sources of tickets: a broker.Sources.
type Sources interface {
	Source(ctx context.Context, name string) (ticket.Source, error)
}

// Tickets takes the verified events of tickets: a broker.TicketDesk.
type Tickets interface {
	Receive(ctx context.Context, e access.TicketEvent) (broker.Receipt, error)
}

// WebhookParts are what TicketWebhook needs; every one is required.
type WebhookParts struct {
	Sources Sources
	Tickets Tickets
	// Secrets gives the values of the named settings, in their order; "" for one that
	// is not set.
	Secrets func(names []string) []string
	Clock   broker.Clock
	// Refusals counts the deliveries that are not believed.
	Refusals *Refusals
	Log      *slog.Logger
}

// TicketWebhook takes the deliveries of ticketing systems at /webhooks/{source}. A
// delivery is recorded when it is answered, and worked behind the queue.
//
// The source is read anew for each delivery, so one that is removed or changed is
// so at once.
type TicketWebhook struct {
	WebhookParts
	decoy ticket.Source
	key   string
}

// NewTicketWebhook makes the function.
func NewTicketWebhook(p WebhookParts) (*TicketWebhook, error) {
	if p.Sources == nil || p.Tickets == nil || p.Secrets == nil || p.Clock == nil || p.Refusals == nil || p.Log == nil {
		return nil, errors.New("handlers: TicketWebhook lacks a part")
	}
	return &TicketWebhook{p, ticket.Source{Name: "decoy", Kind: ticket.GitHub, Secrets: []string{"PORTCULLIS_SECRET_DECOY"}}, rand.Text()}, nil
}

// Before takes the deliveries and passes everything else on to next.
func (h *TicketWebhook) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), WebhookPrefix) {
			h.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP answers one delivery.
func (h *TicketWebhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		methods(http.MethodPost)(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	id, status, err := h.take(ctx, r)
	if err != nil {
		h.problem(w, r, err)
		return
	}
	write(w, http.StatusAccepted, "application/json", map[string]string{"event": id, "status": status})
}

func (h *TicketWebhook) take(ctx context.Context, r *http.Request) (id, status string, err error) {
	body, err := delivery(r)
	if err != nil {
		return "", "", err
	}
	d := ticket.Delivery{Header: r.Header, Body: body, ReceivedAt: h.Clock().UTC()}
	s, v, err := h.verified(ctx, strings.TrimPrefix(r.URL.EscapedPath(), WebhookPrefix), d)
	if err != nil {
		return "", "", err
	}
	// From here on it is the source that is spoken to.
	e, ours, err := s.Map(ctx, v, d.ReceivedAt)
	if err == nil && !ours {
		return v.ID, "ignored", nil
	}
	var receipt broker.Receipt
	if err == nil {
		receipt, err = h.Tickets.Receive(ctx, e)
	}
	if err != nil {
		h.Log.WarnContext(ctx, "a verified delivery is not taken", "source", s.Name, "event", v.ID, "reason", access.ReasonOf(err), "error", err)
		return "", "", err
	}
	h.Log.InfoContext(ctx, "a delivery is taken", "source", s.Name, "event", v.ID, "ticket", e.Ticket, "status", receipt)
	return v.ID, string(receipt), nil
}

// delivery reads a body of bounded size.
func delivery(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, ticket.MaxBody+1))
	if err != nil {
		return nil, access.Wrap(err, access.InvalidArgument, "body_unreadable", "the delivery could not be read")
	}
	if len(data) > ticket.MaxBody {
		return nil, tooLarge{access.Errorf(access.InvalidArgument, "body_too_large", "a delivery has at most %d bytes", ticket.MaxBody)}
	}
	return data, nil
}

// tooLarge is an error that has an HTTP status of its own.
type tooLarge struct{ error }

func (e tooLarge) Unwrap() error { return e.error }

// verified gives the source and what it sent. To whoever does not have the source's
// secret, one that there is not and one whose signature is wrong look the same, and
// take about the same time.
func (h *TicketWebhook) verified(ctx context.Context, name string, d ticket.Delivery) (ticket.Source, ticket.Verified, error) {
	if !ticket.ValidName(name) {
		return ticket.Source{}, ticket.Verified{}, h.stranger(d)
	}
	s, err := h.Sources.Source(ctx, name)
	switch {
	case access.CodeOf(err) == access.NotFound:
		return s, ticket.Verified{}, h.stranger(d)
	case err != nil:
		return s, ticket.Verified{}, err
	}
	v, err := s.Verify(d, h.Secrets(s.Secrets))
	switch reason := access.ReasonOf(err); {
	case reason == "signature_missing":
		err = h.stranger(d)
	case reason == "signature_invalid":
		err = forged()
	}
	if access.CodeOf(err) == access.Unauthenticated {
		h.Log.WarnContext(ctx, "a delivery is not believed", "source", s.Name, "reason", access.ReasonOf(err))
	}
	return s, v, err
}

// stranger does the work of a verification, and refuses.
func (h *TicketWebhook) stranger(d ticket.Delivery) error {
	d.Header = http.Header{"X-Hub-Signature-256": {"sha256=" + strings.Repeat("0", 64)}}
	_, _ = h.decoy.Verify(d, []string{h.key}) // never right
	return forged()
}

func forged() error {
	return access.Errorf(access.Unauthenticated, "signature_invalid", "there is no such source, or the delivery does not bear its signature")
}

func (h *TicketWebhook) problem(w http.ResponseWriter, r *http.Request, err error) {
	p := problemFor(h.Log, w, r, err)
	if _, ok := errors.AsType[tooLarge](err); ok {
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
	}
	if p.Status == http.StatusUnauthorized {
		h.Refusals.note(r.Context(), p.Reason)
		w.Header().Set("WWW-Authenticate", "Webhook") // a 401 names a scheme (RFC 9110, section 15.5.2)
	}
	write(w, p.Status, "application/problem+json", p)
}
