package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

// store opens the tables by their settings.
func (s *shell) store() (*tables.Store, error) {
	cfg, err := config.Load(s.lookup, config.Tables)
	if err != nil {
		return nil, &usageError{err}
	}
	return connect.Tables(cfg.Tables, connect.Watch{})
}

func (s *shell) initCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "create the tables that are missing", Args: cobra.NoArgs,
		Long: "Create the tables of the record that are missing, by the settings of the handler. It is for a\n" +
			"storage account that no deployment has prepared, and may be repeated.",
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := s.store()
			if err != nil {
				return err
			}
			return store.Init(c.Context())
		},
	}
}

func (s *shell) applyDirectly(ctx context.Context, p policy.AccessPolicy, f changeFlags) error {
	if f.plan || f.closeGrants {
		return usagef("--plan and --close-grants go over the API alone")
	}
	store, err := s.store()
	if err != nil {
		return err
	}
	if err := store.Init(ctx); err != nil {
		return err
	}
	before, err := store.GetPolicy(ctx, p.Scope)
	if err != nil && access.CodeOf(err) != access.NotFound {
		return err
	}
	// Nobody is signed in here: whoever may write the tables may say what they like.
	event, err := broker.PolicyEvent(access.EventPolicyChanged, access.Caller{Name: "portcullis policy apply --tables"}, p, before, accessjson.EncodePolicy, s.now(), rand.Text())
	if err != nil {
		return err
	}
	if err := store.Append(ctx, []access.Event{event}); err != nil {
		return err
	}
	version, err := store.PutPolicy(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "applied %s, version %s\n", p.Scope, version)
	return nil
}

func (s *shell) listDirectly(ctx context.Context) error {
	store, err := s.store()
	if err != nil {
		return err
	}
	all, err := store.ListPolicies(ctx, "")
	if err != nil {
		return err
	}
	var documents []json.RawMessage
	for _, p := range all {
		data, err := accessjson.EncodePolicy(p)
		if err != nil {
			return err
		}
		documents = append(documents, data)
	}
	return s.tellPolicies(documents)
}

func (s *shell) getDirectly(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usagef("with --tables, name the scope by its resource id")
	}
	scope, err := access.ParseScope(args[0])
	if err != nil {
		return err
	}
	store, err := s.store()
	if err != nil {
		return err
	}
	p, err := store.GetPolicy(ctx, scope)
	if access.CodeOf(err) == access.NotFound {
		return access.Errorf(access.NotFound, "policy_unknown", "no policy stands at %s", scope)
	}
	if err != nil {
		return err
	}
	data, err := accessjson.EncodePolicy(p)
	if err != nil {
		return err
	}
	return s.raw(s.out, data)
}
