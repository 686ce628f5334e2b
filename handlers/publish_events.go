package handlers

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// publishWithin ends a publishing that hangs, well within the host's limit.
const publishWithin = 2 * time.Minute

// PublishEvents handles prompts for the sending of events: it publishes those of
// the subject that the message names. It always completes the message: what could
// not be sent has its notice in the table, which Sweep goes on with in a minute,
// while a failed message would come back at once. A prompt that is none of ours
// names nothing, and is forgotten.
func PublishEvents(publish func(ctx context.Context, subject string) error, log *slog.Logger) customhandler.Function {
	return func(ctx context.Context, in customhandler.Invocation) error {
		ctx, cancel := context.WithTimeout(ctx, publishWithin)
		defer cancel()
		subject, err := promptedSubject(in.Data)
		if err == nil {
			err = publish(ctx, subject)
		}
		if err != nil {
			log.WarnContext(ctx, "events not sent: left to Sweep", "subject", subject, "messageId", in.MessageID(), "error", err)
		}
		return nil
	}
}

// promptedSubject reads a prompt, {"subject": "<subject>"}, as strictly as
// promptedNSG does.
func promptedSubject(body []byte) (string, error) {
	var doc struct {
		Subject string `json:"subject"`
	}
	if len(body) > maxPrompt {
		return "", access.Errorf(access.InvalidArgument, "prompt_invalid", "the prompt has more than %d bytes", maxPrompt)
	}
	if err := json.Unmarshal(body, &doc, json.RejectUnknownMembers(true)); err != nil {
		return "", access.Wrap(err, access.InvalidArgument, "prompt_invalid", "the prompt is not what is sent as one")
	}
	if doc.Subject == "" {
		return "", access.Errorf(access.InvalidArgument, "prompt_invalid", "the prompt names no subject")
	}
	return doc.Subject, nil
}
