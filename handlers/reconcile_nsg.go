package handlers

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
)

// ReconcileNsg handles prompts and delayed closes: it reconciles the NSG that
// the message names. The time that counts is the broker's, never the body's.
func ReconcileNsg(reconcile func(ctx context.Context, nsg access.ResourceID, enqueued time.Time) error) customhandler.Function {
	return func(ctx context.Context, in customhandler.Invocation) error {
		id, err := promptedNSG(in.Data)
		if err != nil {
			return err
		}
		return reconcile(ctx, id, in.EnqueuedTime())
	}
}

// maxPrompt bounds a prompt, in bytes: one resource id.
const maxPrompt = 4 << 10

// promptedNSG reads a prompt, {"nsg": "<resource id>"}, strictly: another field,
// one said twice or in another case, or anything after it makes it none of ours.
func promptedNSG(body []byte) (access.ResourceID, error) {
	var doc struct {
		NSG string `json:"nsg"`
	}
	if len(body) > maxPrompt {
		return "", access.Errorf(access.InvalidArgument, "prompt_invalid", "the prompt has more than %d bytes", maxPrompt)
	}
	if err := json.Unmarshal(body, &doc, json.RejectUnknownMembers(true)); err != nil {
		return "", access.Wrap(err, access.InvalidArgument, "prompt_invalid", "the prompt is not what is sent as one")
	}
	id, err := access.ParseResourceID(doc.NSG)
	if err != nil {
		return "", err
	}
	if id.Type() != access.TypeNSG {
		return "", access.Errorf(access.InvalidArgument, "prompt_invalid", "the prompt names no network security group")
	}
	return id, nil
}
