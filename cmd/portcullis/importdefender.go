package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/defender"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
)

// importing is what the flags of import defender say.
type importing struct {
	file, out     string
	subscriptions []string
	requestors    []string
	baseline      bool
	apply         bool
	changeFlags
}

func (s *shell) importCommand() *cobra.Command {
	c := &cobra.Command{Use: "import", Short: "take policies over from elsewhere", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(s.importDefender())
	return c
}

func (s *shell) importDefender() *cobra.Command {
	var f importing
	c := &cobra.Command{
		Use: "defender {-f FILE | --subscription ID}", Short: "take over the just-in-time policies of Defender for Cloud", Args: cobra.NoArgs,
		Long: "Turn the just-in-time policies of Microsoft Defender for Cloud into access policies, one for each\n" +
			"machine, and show what differs. Nothing becomes wider than it was: what cannot be said here in\n" +
			"the same words is left out, and named. Nothing is changed in Defender.\n\n" +
			"They are read from an export (what `az security jit-policy list` or `az rest` prints), or from\n" +
			"Azure itself by whoever is signed in. Without --out and --apply they are only shown.",
		Example: "portcullis import defender --subscription 00000000-0000-0000-0000-000000000001 --requestor '*' --out policies\n" +
			"portcullis import defender -f export.json --requestor alice@contoso.com --apply --plan",
		RunE: func(c *cobra.Command, _ []string) error { return s.importFrom(c.Context(), f) },
	}
	fl := c.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "the export's file (- for standard input)")
	fl.StringSliceVar(&f.subscriptions, "subscription", nil, "a subscription to read from Azure; several by commas or by giving it again")
	fl.StringSliceVar(&f.requestors, "requestor", nil, "who may ask: a user principal name, oid:ID, or * for everybody with the role")
	fl.BoolVar(&f.baseline, "baseline", false, "shut the ports by deny rules of ours: once Defender's are to go")
	fl.StringVar(&f.out, "out", "", "a folder to write the policies to, a file each, for policy apply")
	fl.BoolVar(&f.apply, "apply", false, "store the policies over the API, each as policy apply does")
	f.on(c)
	return c
}

func (s *shell) importFrom(ctx context.Context, f importing) error {
	if (f.file == "") == (len(f.subscriptions) == 0) {
		return usagef("name an export with -f, or a subscription with --subscription")
	}
	if f.out != "" && f.apply {
		return usagef("--out writes files and --apply stores policies: choose one")
	}
	read, err := s.readDefender(ctx, f)
	if err != nil {
		return err
	}
	policies, notes := defender.Convert(read, defender.Options{Requestors: f.requestors, Baseline: f.baseline}, s.now())
	documents := make([]json.RawMessage, len(policies))
	for i, p := range policies {
		if documents[i], err = accessjson.EncodePolicy(p); err != nil {
			return err
		}
	}
	if s.json() && !f.apply {
		if err := s.tellImportJSON(documents, notes); err != nil {
			return err
		}
	} else if !s.json() {
		if err := s.tellPolicies(documents); err != nil {
			return err
		}
		if err := s.tellNotes(notes); err != nil {
			return err
		}
	}
	switch {
	case f.out != "":
		return s.writePolicies(f.out, policies, documents)
	case f.apply:
		return s.applyImported(ctx, f, policies, documents)
	}
	return nil
}

func (s *shell) readDefender(ctx context.Context, f importing) ([]defender.Policy, error) {
	if f.file != "" {
		data, err := s.readMost(f.file, defender.MaxExport)
		if err != nil {
			return nil, err
		}
		return defender.Decode(data)
	}
	cfg, err := config.Load(s.lookup, config.ARM)
	if err != nil {
		return nil, &usageError{err}
	}
	from, err := connect.Defender(cfg)
	if err != nil {
		return nil, err
	}
	var all []defender.Policy
	for _, id := range f.subscriptions {
		scope, err := access.ParseScope("/subscriptions/" + id)
		if err != nil || scope.Type() != "" || scope.ResourceGroup() != "" {
			return nil, usagef("%q is not the id of a subscription", id)
		}
		stop := s.spin("reading " + scope.Subscription())
		found, err := from.Policies(ctx, scope.Subscription())
		stop()
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (s *shell) tellImportJSON(documents []json.RawMessage, notes []defender.Note) error {
	if notes == nil {
		notes = []defender.Note{}
	}
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"policies": documents, "notes": notes})
}

func (s *shell) tellNotes(notes []defender.Note) error {
	if len(notes) == 0 {
		return nil
	}
	fmt.Fprintln(s.out)
	t := newTable(s.out, "", "", "MACHINE", "PORT", "WHAT TO KNOW")
	for _, n := range notes {
		machine := ""
		if n.VM != "" {
			machine = machineName(string(n.VM))
		}
		t.row(string(n.Kind), machine, n.Port, n.Message)
	}
	return t.flush()
}

// writePolicies writes a file for each policy, and none over one that is there.
func (s *shell) writePolicies(dir string, policies []policy.AccessPolicy, documents []json.RawMessage) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &usageError{err}
	}
	for i, p := range policies {
		// A scope's segments hold no separator, and are canonical.
		name := p.Scope.Subscription() + "_" + p.Scope.ResourceGroup() + "_" + p.Scope.Name() + ".json"
		file, e := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if e == nil {
			_, e = file.Write(append(documents[i], '\n'))
			e = errors.Join(e, file.Close())
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		return &usageError{err}
	}
	if !s.json() {
		fmt.Fprintf(s.out, "\nWrote %s to %s. Store each with: portcullis policy apply -f FILE\n", count(len(policies), "policy file"), clean(dir))
	}
	return nil
}

func (s *shell) applyImported(ctx context.Context, f importing, policies []policy.AccessPolicy, documents []json.RawMessage) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	for i, p := range policies {
		now, etag, err := standingPolicy(ctx, api, p.Scope)
		if err != nil {
			return err
		}
		if !s.json() {
			fmt.Fprintln(s.out)
		}
		if err := s.change(ctx, change{api: api, scope: p.Scope, old: now, new: documents[i], etag: etag, flags: f.changeFlags, done: "Stored the policy of the " + scopeName(string(p.Scope))}); err != nil {
			return fmt.Errorf("%s: %w", p.Scope.Name(), err)
		}
	}
	return nil
}
