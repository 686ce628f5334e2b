package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/accessjson"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/policy"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "access policies"}
	c.AddCommand(policyApply(), policyList(), policyGet(), policyTest())
	return c
}

func store() (*tables.Store, error) {
	cfg, err := config.Load(os.LookupEnv, config.Tables)
	if err != nil {
		return nil, err
	}
	return connect.Tables(cfg.Tables)
}

func policyApply() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "store the policy of a JSON or YAML file (- for standard input)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := read(c, file)
			if err != nil {
				return err
			}
			if data, err = asJSON(data); err != nil {
				return err
			}
			p, err := accessjson.DecodePolicy(data)
			if err != nil {
				return err
			}
			s, err := store()
			if err != nil {
				return err
			}
			if err := s.Init(c.Context()); err != nil {
				return err
			}
			version, err := s.PutPolicy(c.Context(), p)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "applied %s, version %s\n", p.Scope, version)
			return nil
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the policy's file")
	_ = c.MarkFlagRequired("file") // fails only for a flag that is not defined
	return c
}

func policyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the policies", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := store()
			if err != nil {
				return err
			}
			all, err := s.ListPolicies(c.Context(), "")
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "SCOPE\tPORTS\tVERSION")
			for _, p := range all {
				ports := ""
				for i, port := range p.Ports {
					if i > 0 {
						ports += ", "
					}
					ports += fmt.Sprintf("%d/%s ≤ %s", port.Number, port.Protocol, access.FormatDuration(port.MaxDuration))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", p.Scope, ports, p.Version)
			}
			return w.Flush()
		},
	}
}

func policyGet() *cobra.Command {
	return &cobra.Command{
		Use: "get SCOPE", Short: "show the policy that stands at a scope", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			scope, err := access.ParseScope(args[0])
			if err != nil {
				return err
			}
			s, err := store()
			if err != nil {
				return err
			}
			p, err := s.GetPolicy(c.Context(), scope)
			if err != nil {
				return err
			}
			data, err := accessjson.EncodePolicy(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s\n", data)
			return nil
		},
	}
}

// errRefused makes policy test exit with 1 once it has said why.
var errRefused = errors.New("this request would be refused")

func policyTest() *cobra.Command {
	var file, oid string
	c := &cobra.Command{
		Use: "test -f FILE", Short: "say whether a request message would pass, and why not", Args: cobra.NoArgs,
		Long: "Say whether a request message would pass the stored policies, and why not.\n" +
			"With --oid the requestor is taken as verified by a token; without, as asserted on the queue.\n" +
			"The machine's path (its network security groups) is not looked at.",
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := read(c, file)
			if err != nil {
				return err
			}
			m, err := accessjson.DecodeRequest(data)
			if err != nil {
				return err
			}
			s, err := store()
			if err != nil {
				return err
			}
			req := access.Request{
				Requestor:   access.Requestor{Name: m.Requestor, ObjectID: oid, Asserted: oid == ""},
				RequestedBy: access.Sender{Channel: access.ChannelQueue}, Justification: m.Justification, Ticket: m.Ticket, Ports: m.Ports,
			}
			if oid != "" {
				req.RequestedBy.Channel = access.ChannelHTTP
			}
			var policies []policy.AccessPolicy
			for _, p := range m.Ports {
				found, err := s.PoliciesFor(c.Context(), p.VM)
				if err != nil {
					return err
				}
				policies = append(policies, found...)
			}
			return tell(c.OutOrStdout(), policy.Evaluate(req, policies, policy.Limits{}, time.Now()))
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the request message's file (- for standard input)")
	c.Flags().StringVar(&oid, "oid", "", "the requestor's Entra object id, as a token would name it")
	_ = c.MarkFlagRequired("file") // fails only for a flag that is not defined
	return c
}

func tell(w io.Writer, d policy.Decision) error {
	for _, g := range d.Granted {
		fmt.Fprintf(w, "pass    %s port %d/%s from %s until %s, by the policy at %s\n", g.Request.VM.Name(), g.Request.Port, g.Protocol,
			access.FormatPrefix(g.Request.Source), g.EndTime.Format(time.RFC3339), g.Scope)
	}
	for _, v := range d.Violations {
		fmt.Fprintf(w, "refuse  %s %s (%s)\n", v.Path, v.Message, v.Reason)
	}
	// Whoever runs this reads the tables, so the true cause is theirs to know.
	for _, cause := range d.Internal {
		fmt.Fprintf(w, "        as %s\n", cause)
	}
	if !d.Allowed() {
		return errRefused
	}
	return nil
}

func read(c *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(c.InOrStdin(), accessjson.MaxBody+1))
	}
	return os.ReadFile(file)
}

// asJSON takes JSON as it is, so that what it says twice is found, and turns
// YAML into JSON strictly.
func asJSON(data []byte) ([]byte, error) {
	for _, b := range data {
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return data, nil
		}
		break
	}
	return yaml.YAMLToJSONStrict(data)
}
