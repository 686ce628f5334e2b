package handlers

import (
	"context"
	"encoding/json"
	"time"

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

// promptedNSG reads a prompt: {"nsg": "<resource id>"}.
func promptedNSG(body []byte) (access.ResourceID, error) {
	var doc struct {
		NSG string `json:"nsg"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", access.Wrap(err, access.InvalidArgument, "prompt_invalid", "the prompt is not JSON")
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
