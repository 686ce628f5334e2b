package handlers

import (
	"context"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// holdBeforeFailing keeps a failing dead-letter function from spinning: the
// delivery count is frozen there, and the host delivers again at once.
const holdBeforeFailing = 10 * time.Second

// DeadLetters records what could not be processed.
type DeadLetters interface {
	Request(ctx context.Context, sender access.Sender, messageID, bodyHash string, body []byte) error
	Prompt(ctx context.Context, nsg access.ResourceID, messageID string) error
}

// DeadRequest handles the dead letters of access-requests.
func DeadRequest(dead DeadLetters) customhandler.Function {
	return held(func(ctx context.Context, in customhandler.Invocation) error {
		return dead.Request(ctx, QueueSender(), in.MessageID(), accessjson.Hash(in.Data), in.Data)
	})
}

// DeadReconcile handles the dead letters of nsg-reconcile. One that names no
// NSG is recorded as a dead request message is: there is nothing to prompt.
func DeadReconcile(dead DeadLetters) customhandler.Function {
	return held(func(ctx context.Context, in customhandler.Invocation) error {
		id, err := promptedNSG(in.Data)
		if err != nil {
			sender := access.Sender{Channel: access.ChannelQueue, Principal: "nsg-reconcile"}
			return dead.Request(ctx, sender, in.MessageID(), accessjson.Hash(in.Data), in.Data)
		}
		return dead.Prompt(ctx, id, in.MessageID())
	})
}

// held lets f fail, by an error or a panic, only after a while.
func held(f customhandler.Function) customhandler.Function {
	return func(ctx context.Context, in customhandler.Invocation) error {
		failed := true
		defer func() {
			if !failed {
				return
			}
			t := time.NewTimer(holdBeforeFailing)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
		}()
		err := f(ctx, in)
		failed = err != nil
		return err
	}
}
