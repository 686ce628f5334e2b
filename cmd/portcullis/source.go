package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/portcullis-access/portcullis/pkg/ticket"
	"github.com/spf13/cobra"
)

func (s *shell) sourceCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "source", Short: "keep ticketing sources, whose webhooks are heard",
		Long: "Keep ticketing sources over the API. A source says how its webhooks are verified, by secrets that\n" +
			"it names and never holds, and how a payload becomes an event of a ticket, by expressions in CEL.",
		Args: cobra.NoArgs, RunE: help,
	}
	c.AddCommand(s.sourceApply(), s.sourceList(), s.sourceGet(), s.sourceDelete(), s.sourceTest())
	return c
}

func (s *shell) sourceApply() *cobra.Command {
	var file string
	var yes bool
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "store the source of a JSON or YAML file", Args: cobra.NoArgs,
		Long: "Store the source of a JSON or YAML file under its name. Its expressions are compiled and tried on\n" +
			"its sample first; the difference to what stands is shown, and it is stored only if nobody has\n" +
			"changed it meanwhile. Then it is said which of its secrets are not set.",
		Example: "portcullis source apply -f source.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			src, err := s.sourceFile(file)
			if err != nil {
				return err
			}
			if err := src.Validate(); err != nil {
				return err
			}
			api, err := s.client()
			if err != nil {
				return err
			}
			return s.applySource(c.Context(), api, src, yes)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the source's file (- for standard input, which takes --yes)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	_ = c.MarkFlagRequired("file") // fails only for a flag that is not defined
	return c
}

func (s *shell) sourceFile(file string) (ticket.Source, error) {
	data, err := s.read(file)
	if err != nil {
		return ticket.Source{}, err
	}
	if data, err = asJSON(data); err != nil {
		return ticket.Source{}, usagef("%s: %w", file, err)
	}
	return ticket.DecodeSource(data)
}

// standingSource gives the source of the name with its ETag, which is "" where none
// stands.
func standingSource(ctx context.Context, api *client.Client, name string) (ticket.Source, string, error) {
	found, err := api.Source(ctx, name)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Reason == "source_unknown" {
		return ticket.Source{}, "", nil
	}
	if err != nil {
		return ticket.Source{}, "", err
	}
	src, err := ticket.DecodeSource(found.Raw)
	if err != nil {
		return src, "", &notedError{err, "The source says what this portcullis does not know: get a newer one."}
	}
	return src, found.ETag, nil
}

func (s *shell) applySource(ctx context.Context, api *client.Client, src ticket.Source, yes bool) error {
	old, etag, err := standingSource(ctx, api, src.Name)
	if err != nil {
		return err
	}
	data, err := ticket.EncodeSource(src)
	if err != nil {
		return err
	}
	if !s.json() {
		s.tellSourceDifference(old, etag, src.Name, data)
	}
	if err := s.confirm(ctx, "Store this?", yes); err != nil {
		return err
	}
	out, err := api.PutSource(ctx, src.Name, data, etag)
	if err != nil {
		return err
	}
	if s.json() {
		return s.raw(s.out, out.Raw)
	}
	fmt.Fprintf(s.out, "\nStored the source %s. It sends to %s.\n", src.Name, clean(out.Value.Webhook))
	for _, secret := range out.Value.Secrets {
		switch secret.State {
		case "missing":
			fmt.Fprintf(s.out, "The app setting %s is not set yet: until it is, no delivery signed by it is believed.\n", clean(secret.Name))
		case "unresolved":
			fmt.Fprintf(s.out, "The app setting %s is a Key Vault reference that App Service could not follow: look at its status in the portal.\n", clean(secret.Name))
		}
	}
	return nil
}

func (s *shell) tellSourceDifference(old ticket.Source, etag, name string, data []byte) {
	if etag == "" {
		fmt.Fprintf(s.out, "New source %s:\n%s\n", name, cleanText(string(data)))
		return
	}
	before, _ := ticket.EncodeSource(old) // what cannot be shown is not
	lines := diff(string(before), string(data))
	if len(lines) == 0 {
		fmt.Fprintf(s.out, "The source %s stays as it is.\n", name)
		return
	}
	fmt.Fprintf(s.out, "The source %s changes:\n", name)
	for _, l := range lines {
		color := map[byte]string{'-': red, '+': green}[l[0]]
		fmt.Fprintln(s.out, s.colored(s.colorOut && color != "", color, clean(l)))
	}
}

func (s *shell) sourceList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the sources, and whether their secrets are set", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			all, err := api.Sources(c.Context())
			if err != nil {
				return err
			}
			if s.json() {
				return s.rawList(all.Raw)
			}
			t := newTable(s.out, "", "NAME", "KIND", "WEBHOOK", "SECRETS")
			for _, item := range all.Items {
				var doc struct{ Name, Kind string }
				if err := json.Unmarshal(item.Source, &doc); err != nil {
					return &notedError{err, "The source says what this portcullis does not know: get a newer one."}
				}
				var secrets []string
				for _, secret := range item.Secrets {
					secrets = append(secrets, secret.Name+" "+secret.State)
				}
				t.row(doc.Name, doc.Kind, item.Webhook, strings.Join(secrets, ", "))
			}
			return t.flush()
		},
	}
}

func (s *shell) sourceGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "show a source, as apply takes it", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			found, err := api.Source(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.raw(s.out, found.Raw)
		},
	}
}

func (s *shell) sourceDelete() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete NAME", Short: "remove a source, which is not heard any more then", Args: cobra.ExactArgs(1),
		Long: "Remove a source. From then on its deliveries are refused. What its tickets vouched for stays open\n" +
			"until it ends, and what is known of them counts until a policy's maxEventAge has passed.",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			found, err := api.Source(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := s.confirm(c.Context(), "Remove the source "+clean(args[0])+"?", yes); err != nil {
				return err
			}
			if err := api.DeleteSource(c.Context(), args[0], found.ETag); err != nil {
				return err
			}
			if !s.json() {
				fmt.Fprintf(s.out, "Removed the source %s.\n", clean(args[0]))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
