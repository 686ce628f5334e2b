package servicebus

import (
	"net/http"
	"strings"

	"github.com/Azure/go-amqp"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

// reply is the answer to a request to $cbs or $management.
type reply struct {
	status      int // of HTTP
	description string
	condition   string // for the SDKs that tell errors apart by it
	value       any
}

func failed(status int, err *wire.Error) reply {
	return reply{status: status, description: err.Description, condition: err.Condition}
}

// request handles a request that came in on the link. What it returns is to be
// done without the server's lock.
func (l *link) request(m *amqp.Message) (after func()) {
	operation, _ := m.ApplicationProperties["operation"].(string)
	if l.kind == linkManagement {
		l.managed(operation, m)
		return nil
	}
	if operation != "put-token" {
		l.answer(m, reply{status: http.StatusNotImplemented, description: "Only put-token is supported.", condition: condNotSupported})
		return nil
	}
	return func() { l.putToken(m) }
}

// putToken authorizes the connection for an entity. It runs without the lock,
// because verifying may take a call to the token's issuer.
func (l *link) putToken(m *amqp.Message) {
	c := l.ss.c
	s := c.s
	name, _ := m.ApplicationProperties["name"].(string)
	token, _ := m.Value.(string)
	path := entityPath(name)
	cl, err := s.verify(s.ctx, token, path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.released || c.closing {
		return
	}
	if err != nil {
		s.log.Debug("token refused", "entity", path, "reason", err.Error())
		l.answer(m, reply{status: http.StatusUnauthorized, description: err.Error(), condition: condUnauthorized})
		return
	}
	accept := func() {
		c.claims[path] = cl
		l.answer(m, reply{status: http.StatusAccepted, description: "Accepted"})
	}
	n, _, ok := s.resolve(path)
	switch {
	case ok:
		s.perform(act{c: c, verb: "authorize", n: n, do: accept,
			refuse: func(d *denial) { l.answer(m, failed(d.status, d.Error)) }})
	case path == "":
		accept()
	default:
		// Azure answers 404 here; it is how the SDKs learn that there is no such entity.
		l.answer(m, failed(http.StatusNotFound, notFound(path)))
	}
}

// managed does a request to an entity's management and answers it.
func (l *link) managed(operation string, m *amqp.Message) {
	var holder any
	if name, ok := m.ApplicationProperties["associated-link-name"].(string); ok {
		if other := l.associated(name); other != nil {
			holder = other
		}
	}
	do := func() { l.answer(m, l.manage(operation, m, holder)) }
	verb, known := managementVerb(operation)
	if !known {
		do()
		return
	}
	a := act{c: l.ss.c, verb: verb, n: l.node, holder: holder, do: do,
		refuse: func(d *denial) { l.answer(m, failed(d.status, d.Error)) }}
	tokens, _ := values[amqp.UUID](body(m)["lock-tokens"])
	for _, token := range tokens {
		a.tokens = append(a.tokens, token)
	}
	l.ss.c.s.perform(a)
}

// managementVerb is what fault plans call an operation of $management.
func managementVerb(operation string) (verb string, known bool) {
	switch operation = strings.TrimPrefix(operation, "com.microsoft:"); operation {
	case "schedule-message":
		return "schedule", true
	case "cancel-scheduled-message":
		return "cancel", true
	case "peek-message":
		return "peek", true
	case "renew-lock", "renew-session-lock":
		return "renew-lock", true
	case "receive-by-sequence-number":
		return "receive", true
	case "update-disposition":
		return "settle", true
	case "get-session-state", "set-session-state":
		return operation, true
	case "get-message-sessions":
		return "list-sessions", true
	}
	return "", false
}

// answer sends a reply on the link that the request names: by its target
// address or, as the SDK for JavaScript has it, by its own name.
func (l *link) answer(request *amqp.Message, r reply) {
	m := amqp.Message{
		Properties: &amqp.MessageProperties{},
		ApplicationProperties: map[string]any{
			"status-code": int32(r.status), "statusCode": int32(r.status),
			"status-description": r.description, "statusDescription": r.description,
		},
		Value: r.value,
	}
	if r.condition != "" {
		m.ApplicationProperties["errorCondition"] = r.condition
	}
	replyTo := ""
	if p := request.Properties; p != nil {
		m.Properties.CorrelationID = p.MessageID
		if p.ReplyTo != nil {
			replyTo = *p.ReplyTo
		}
	}
	if tracking, ok := request.ApplicationProperties["com.microsoft:tracking-id"].(string); ok {
		m.ApplicationProperties["com.microsoft:tracking-id"] = tracking
	}
	if m.Value == nil {
		m.Value = map[string]any{}
	}
	payload, err := m.MarshalBinary()
	if err != nil {
		l.ss.c.s.log.Error("a reply could not be encoded", "error", err.Error())
		return
	}
	to := l.replyLink(replyTo)
	if to == nil {
		l.ss.c.s.log.Debug("a request names no link for the reply", "reply-to", replyTo)
		return
	}
	if len(to.replies) >= linkCredit {
		l.ss.c.s.log.Debug("a peer asks but takes no replies", "link", to.name)
		return
	}
	to.replies = append(to.replies, payload)
	to.flushReplies()
}

// replyLink finds the link for the reply. A request that names none, as those of
// Microsoft's C library do, is answered on the one link for replies of its session.
func (l *link) replyLink(replyTo string) *link {
	if replyTo == "" {
		var only *link
		for _, other := range l.ss.links {
			if other.sender && !other.detached && other.kind == l.kind && other.node == l.node {
				if only != nil {
					return nil
				}
				only = other
			}
		}
		return only
	}
	for _, ss := range l.ss.c.sessions {
		for _, other := range ss.links {
			if other.sender && !other.detached && other.kind == l.kind && other.node == l.node &&
				(other.replyTo == replyTo || other.name == replyTo) {
				return other
			}
		}
	}
	return nil
}

// flushReplies sends the replies for which there is credit.
func (l *link) flushReplies() {
	for l.credit > 0 && len(l.replies) > 0 {
		payload := l.replies[0]
		l.replies = l.replies[1:]
		l.settled = true
		l.transfer(replyTag(l.ss.nextDeliveryID), payload)
	}
}

// body is the map in a request.
func body(m *amqp.Message) map[string]any {
	switch v := m.Value.(type) {
	case map[string]any:
		return v
	case map[any]any:
		named := map[string]any{}
		for key, value := range v {
			switch key := key.(type) {
			case string:
				named[key] = value
			case amqp.Symbol:
				named[string(key)] = value
			}
		}
		return named
	}
	return nil
}

// values reads an array or a list of one type; false if it is neither.
func values[T any](v any) ([]T, bool) {
	switch v := v.(type) {
	case []T:
		return v, true
	case []any:
		out := make([]T, 0, len(v))
		for _, e := range v {
			t, ok := e.(T)
			if !ok {
				return nil, false
			}
			out = append(out, t)
		}
		return out, true
	}
	return nil, false
}
