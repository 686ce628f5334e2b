package customhandler

import (
	"context"
	"log/slog"
)

// invocationKey is where a context holds the attributes of its invocation.
type invocationKey struct{}

func withInvocation(ctx context.Context, function, id string) context.Context {
	return context.WithValue(ctx, invocationKey{}, []slog.Attr{slog.String("function", function), slog.String("invocationId", id)})
}

// LogHandler adds the function's name and the invocation's id to each record
// that is logged with a function's context, so that a line of a use case can be
// found from the host's own, too.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if attrs, ok := ctx.Value(invocationKey{}).([]slog.Attr); ok {
		r = r.Clone()
		r.AddAttrs(attrs...)
	}
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(a)}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name)}
}
