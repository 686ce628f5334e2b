package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/internal/appzip"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/spf13/cobra"
)

type runOptions struct {
	app, dir, envFile, topology, entities, policy, log string
	client                                             string
	freePorts                                          bool
	latency                                            time.Duration
	settings                                           []string
}

func runCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run",
		Short: "start the local stack and serve until interrupted",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return run(c.Context(), o, c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&o.app, "app", "dist/app", "the staged function app, or the package of one: a .zip")
	f.StringVar(&o.dir, "dir", ".local", "where the local CA, the environment file and the log are kept")
	f.StringVar(&o.envFile, "env-file", "", "where to write what a client needs (default: <dir>/env)")
	f.StringVar(&o.topology, "topology", "docs/examples/topology.json", "the machines and networks there are")
	f.StringVar(&o.entities, "entities", "infra/entities.json", "the queues there are")
	f.StringVar(&o.policy, "policy", "", "an access policy to apply at the start")
	f.StringVar(&o.log, "log", "", "where the handler's and the host's lines go (default: <dir>/log)")
	f.StringVar(&o.client, "client-address", "203.0.113.7", "where callers seem to come from: loopback is in no policy")
	f.BoolVar(&o.freePorts, "free-ports", false, "take free ports instead of the fixed ones")
	f.DurationVar(&o.latency, "latency", time.Second, "how long a write of a network security group takes")
	f.StringArrayVar(&o.settings, "set", nil, "an app setting, NAME=value; may be given more than once. Variables PORTCULLIS_SECRET_* are settings without being said")
	return c
}

// secretPrefix begins the variables of this program that are app settings without
// being said: secrets, which have no place among a program's arguments.
const secretPrefix = "PORTCULLIS_SECRET_"

// settingsOf gives the app settings that the environment and --set ask for.
func settingsOf(environment, set []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range environment {
		if name, value, _ := strings.Cut(s, "="); strings.HasPrefix(name, secretPrefix) {
			out[name] = value
		}
	}
	for _, s := range set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--set %q is not NAME=value", s)
		}
		out[name] = value
	}
	return out, nil
}

func run(ctx context.Context, o runOptions, out io.Writer) error {
	topology, err := os.ReadFile(o.topology)
	if err != nil {
		return err
	}
	entities, err := os.ReadFile(o.entities)
	if err != nil {
		return err
	}
	settings, err := settingsOf(os.Environ(), o.settings)
	if err != nil {
		return err
	}
	client, err := netip.ParseAddr(o.client)
	if err != nil {
		return fmt.Errorf("--client-address: %w", err)
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	if o.log == "" {
		o.log = filepath.Join(o.dir, "log")
	}
	log, err := os.OpenFile(o.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	app, remove, err := unpacked(o.app)
	if err != nil {
		return err
	}
	defer remove()
	ports := localazure.DefaultPorts()
	if o.freePorts {
		ports = localazure.Ports{}
	}
	stack, err := localazure.Start(ctx, localazure.Config{
		Dir: o.dir, AppRoot: app, Topology: topology, Entities: entities, Ports: ports,
		OperationLatency: o.latency, ClientAddress: client, Settings: settings, Stdout: log,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		return fmt.Errorf("%w (the log is in %s)", err, o.log)
	}
	if err := serve(ctx, o, stack, out); err != nil {
		stack.Close()
		return err
	}
	return stack.Close()
}

// unpacked gives the folder of an app, which is a temporary one where the app is
// a package, and what removes that.
func unpacked(app string) (dir string, remove func(), err error) {
	if !strings.EqualFold(filepath.Ext(app), ".zip") {
		return app, func() {}, nil
	}
	if dir, err = os.MkdirTemp("", "portcullis-app-"); err != nil {
		return "", nil, err
	}
	// What cannot be removed is the system's to clean up.
	remove = func() { _ = os.RemoveAll(dir) }
	if err := appzip.Extract(app, dir); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

func serve(ctx context.Context, o runOptions, stack *localazure.Stack, out io.Writer) error {
	if o.envFile == "" {
		o.envFile = filepath.Join(o.dir, "env")
	}
	if err := tool(ctx, stack.Env(), "init"); err != nil {
		return err
	}
	if o.policy != "" {
		if err := tool(ctx, stack.Env(), "policy", "apply", "--tables", "-f", o.policy); err != nil {
			return err
		}
	}
	// The file appears whole and last: whoever waits for it finds everything up.
	if err := writeEnv(o.envFile, stack.Env()); err != nil {
		return err
	}
	defer os.Remove(o.envFile)
	describe(out, o, stack.Env())
	select {
	case <-ctx.Done():
		return nil
	case err := <-stack.Failed():
		return err
	}
}

// tool runs the command line tool that stands beside this program, as a person
// would.
func tool(ctx context.Context, env map[string]string, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "portcullis"), args...)
	c.Env = os.Environ()
	for k, v := range env {
		c.Env = append(c.Env, k+"="+v)
	}
	if msg, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("portcullis %s: %w: %s", strings.Join(args, " "), err, msg)
	}
	return nil
}

func writeEnv(path string, env map[string]string) error {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "%s='%s'\n", k, strings.ReplaceAll(env[k], "'", `'\''`))
	}
	tmp := path + ".new"
	// It holds keys of the local stack: for its owner alone.
	if err := os.WriteFile(tmp, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func describe(out io.Writer, o runOptions, env map[string]string) {
	fmt.Fprintf(out, `Portcullis is up, on stand-ins for Azure.

  Service Bus        %s
  Tables             %s
  Resource Manager   %s
  Identity           %s
  Functions          %s
  Environment        %s   (set -a; . %s; set +a)
  Log                %s

Open %s in a browser, and sign in as whoever you like; or ask for
access from another shell:

  export PORTCULLIS_URL=%s
  export PORTCULLIS_TOKEN=$(bin/portcullis-local token --env-file %s --as alice@contoso.com --role Access.Request)
  bin/portcullis vms
  bin/portcullis request --vm web-1 --port 22 --from 203.0.113.7 --for 5m --reason 'look at the logs' --wait

Ctrl-C stops everything.
`, env["SERVICEBUS_FULLY_QUALIFIED_NAMESPACE"], env["AZURE_TABLES_ENDPOINT"], env["ARM_ENDPOINT"], env["PORTCULLIS_ISSUER"],
		env["FUNCTIONS_ENDPOINT"], o.envFile, o.envFile, o.log, env["FUNCTIONS_ENDPOINT"], env["PORTCULLIS_URL"], o.envFile)
}
