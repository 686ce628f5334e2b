package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/spf13/cobra"
)

// shell is what the commands know of the world around them.
type shell struct {
	in        io.Reader
	out, errs io.Writer
	lookup    func(string) (string, bool)
	now       func() time.Time // its zone is the one that times are shown in
	sleep     func(context.Context, time.Duration) error
	// credential gives tokens for an audience, by whatever signed in here.
	credential func(audience string) func(context.Context) (string, error)
	// anchors opens a container of anchors, by an identity as the connection says.
	anchors  func(url string, like config.Connection) (broker.AnchorReader, error)
	asks     bool // somebody can be asked
	spins    bool // somebody watches stderr
	colorOut bool
	colorErr bool

	url, tokenFile, output string // flags
	began                  bool   // a command runs: what fails now is not how it was called
}

const about = `Just-in-time access to Azure virtual machines: see which there are, ask for a port
of one for a while, extend it, give it back; as an administrator switch it on and
off, keep policies, lock down; as an auditor see what happened, and what is proven.

Where the service is:
  --url or PORTCULLIS_URL        the function app's address (https)
Who you are, the first that is there:
  --token-file                   a file that holds a bearer token
  PORTCULLIS_TOKEN               a bearer token
  PORTCULLIS_AUDIENCE            the application's id URI, such as api://portcullis:
                                 a token for it from where you are signed in already
                                 (az login, azd auth login, a managed identity, ...)

Exit codes:
  0  done
  1  failed; with --wait also: it was accepted and could not be opened;
     audit verify also: something is wrong with the record
  2  not understood: a flag, an argument, a name that fits several machines, a file,
     a setting
  3  refused: by a policy, by a lockdown, or by how things stand
  4  not found, or not yours to see
  5  not signed in, or without the role
  6  could not be done now: try again later
  7  --wait waited as long as it was told to
  8  somebody else has changed it meanwhile
  130  interrupted`

// command makes the whole tree.
func (s *shell) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "portcullis",
		Short:         "Just-in-time access to Azure virtual machines",
		Long:          about,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          help,
	}
	f := root.PersistentFlags()
	f.StringVar(&s.url, "url", "", "the service's address (default: PORTCULLIS_URL)")
	f.StringVar(&s.tokenFile, "token-file", "", "a file that holds a bearer token")
	f.StringVarP(&s.output, "output", "o", "table", "table for people, json for scripts: what the API answered, and problems too")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not defined
	root.AddCommand(s.vmsCommand(), s.requestCommand(), s.statusCommand(), s.extendCommand(), s.revokeCommand(),
		s.enableCommand(), s.disableCommand(), s.lockdownCommand(), s.policyCommand(), s.sourceCommand(), s.importCommand(), s.auditCommand(), s.sweepCommand(), s.doctorCommand(), s.initCommand())
	s.mark(root)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.errs)
	return root
}

func help(c *cobra.Command, _ []string) error { return c.Help() }

// mark notes when a command begins to run, so that what fails before is known
// to be how it was called.
func (s *shell) mark(c *cobra.Command) {
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			s.began = true
			if s.output != "table" && s.output != "json" {
				return usagef("--output is table or json, not %q", s.output)
			}
			return do(c, args)
		}
	}
	for _, child := range c.Commands() {
		s.mark(child)
	}
}

// run runs one command and gives its exit code.
func run(ctx context.Context, s *shell, args []string) int {
	root := s.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !s.began {
		err = &usageError{err}
	}
	if err == nil {
		return exitDone
	}
	return s.report(ctx, err)
}

func (s *shell) json() bool { return s.output == "json" }

func (s *shell) env(name string) string {
	v, _ := s.lookup(name)
	return strings.TrimSpace(v)
}

// client gives the API's client.
func (s *shell) client() (*client.Client, error) {
	url := s.url
	if url == "" {
		url = s.env("PORTCULLIS_URL")
	}
	if url == "" {
		return nil, usagef("where is Portcullis? Set PORTCULLIS_URL to the function app's address, or give --url")
	}
	tokens, err := s.tokens()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{URL: url, Token: tokens, UserAgent: "portcullis", Sleep: s.sleep})
	if err != nil {
		return nil, usagef("--url or PORTCULLIS_URL: %s", strings.TrimPrefix(err.Error(), "client: "))
	}
	return c, nil
}

// tokens picks where tokens come from.
func (s *shell) tokens() (client.TokenSource, error) {
	switch {
	case s.tokenFile != "":
		// Read for each call: whoever renews it need not tell us.
		return client.TokenFunc(func(context.Context) (string, error) { return tokenOf(s.tokenFile) }), nil
	case s.env("PORTCULLIS_TOKEN") != "":
		token := s.env("PORTCULLIS_TOKEN")
		return client.TokenFunc(func(context.Context) (string, error) { return token, checkToken(token, "PORTCULLIS_TOKEN") }), nil
	case s.env("PORTCULLIS_AUDIENCE") != "":
		return client.TokenFunc(s.credential(s.env("PORTCULLIS_AUDIENCE"))), nil
	}
	return nil, errNotSignedIn
}

var errNotSignedIn = errors.New("who are you? Sign in (az login) and set PORTCULLIS_AUDIENCE to the application's id URI, or give a token by --token-file or PORTCULLIS_TOKEN")

// maxToken bounds a token, in bytes. Entra's stay below what a header may hold.
const maxToken = 32 << 10

func tokenOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	return token, checkToken(token, path)
}

// checkToken refuses what cannot be a token, and does not show it.
func checkToken(token, from string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, odd) {
		return fmt.Errorf("%s does not hold one token", from)
	}
	return nil
}
