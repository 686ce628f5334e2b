package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/infra"
	"github.com/portcullis-access/portcullis/internal/connect"
	"github.com/portcullis-access/portcullis/internal/doctor"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/client"
	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/spf13/cobra"
)

// functions are those of the app: nobody may reach one by its name from outside.
var functions = []string{
	"AccessApi", "Anchor", "DeadReconcile", "DeadRequest", "PortalFiles", "PortalPage", "ReconcileNsg", "PublishEvents", "RequestAccess", "Scan", "Sweep", "TicketWebhook",
}

// examining is what the flags of doctor say.
type examining struct {
	principal, group, vm, source string
	port                         uint16
}

func (s *shell) doctorCommand() *cobra.Command {
	var e examining
	c := &cobra.Command{
		Use: "doctor", Short: "examine a deployment from outside, and say how to mend what is wrong", Args: cobra.NoArgs,
		Long: "Examine a deployment from outside: the API and its clock, that no function is reached, your own\n" +
			"token, queues and their settings, tables and what is late in them, locks, the rights of the app's\n" +
			"identity, and what a grant on one machine would write. It changes nothing.\n\n" +
			"Each part is looked at where it is configured: PORTCULLIS_URL for the API, and of docs/settings.md\n" +
			"ServiceBus__fullyQualifiedNamespace, Tables__accountName and AZURE_SUBSCRIPTION_IDS. What is\n" +
			"missing is said, and not taken for well. Exit code 1 where something is wrong.",
		Example: "portcullis doctor\nportcullis doctor --principal OBJECT_ID --deployment-group GROUP_ID --vm VM_ID --port 22 --source 203.0.113.7",
		RunE: func(c *cobra.Command, _ []string) error {
			checks, err := s.checks(e)
			if err != nil {
				return err
			}
			stop := s.spin("examining")
			r := doctor.Examine(c.Context(), checks)
			stop()
			return s.tellReport(r)
		},
	}
	f := c.Flags()
	f.StringVar(&e.principal, "principal", "", "the object id of the app's identity, whose rights are looked at")
	f.StringVar(&e.group, "deployment-group", "", "the id of the resource group that the deployment made, in which its rights on queues, tables and blobs are looked at")
	f.StringVar(&e.vm, "vm", "", "the id of a machine on which a grant is planned, and not written")
	f.Uint16Var(&e.port, "port", 22, "the port of that plan")
	f.StringVar(&e.source, "source", "203.0.113.7", "the source of that plan")
	return c
}

// checks puts the examination together out of what is configured.
func (s *shell) checks(e examining) ([]doctor.Check, error) {
	out := s.apiChecks()
	for _, part := range []func(examining) ([]doctor.Check, error){s.busChecks, s.tableChecks, s.azureChecks} {
		more, err := part(e)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// anyCase gives each name in lower case too: routes match without regard to it.
func anyCase(names []string) (out []string) {
	for _, n := range names {
		out = append(out, n, strings.ToLower(n))
	}
	return out
}

func (s *shell) apiChecks() []doctor.Check {
	url := s.url
	if url == "" {
		url = s.env("PORTCULLIS_URL")
	}
	if url == "" {
		return []doctor.Check{doctor.NotConfigured("api", "PORTCULLIS_URL is not set")}
	}
	out := []doctor.Check{doctor.API(url, probe(url), s.now), doctor.Functions(anyCase(functions), probe(url))}
	api, err := s.client()
	if err != nil {
		return append(out, doctor.NotConfigured("identity", err.Error()))
	}
	return append(out, doctor.Token(func(ctx context.Context) (doctor.Caller, error) {
		me, err := api.Me(ctx)
		if err != nil {
			return doctor.Caller{}, apiError(err)
		}
		c := doctor.Caller{Name: me.Value.Name, Roles: me.Value.Roles}
		machines, err := api.Machines(ctx, client.MachineFilter{})
		c.Machines = len(machines.Items)
		return c, apiError(err)
	}))
}

// apiError gives an answer of the API as the error it was.
func apiError(err error) error {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return access.Wrap(err, access.Unavailable, e.Reason, e.Detail)
	}
	return err
}

// maxProbe bounds what is read of an answer, in bytes.
const maxProbe = 1 << 20

func probe(url string) doctor.Probe {
	c := http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, method, path string) (doctor.Answer, error) {
		r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(url, "/")+path, nil)
		if err != nil {
			return doctor.Answer{}, err
		}
		res, err := c.Do(r)
		if err != nil {
			return doctor.Answer{}, err
		}
		defer func() { _ = res.Body.Close() }() // it was only read
		body, err := io.ReadAll(io.LimitReader(res.Body, maxProbe))
		date, _ := http.ParseTime(res.Header.Get("Date")) // none is told of
		return doctor.Answer{Status: res.StatusCode, Date: date, Body: string(body)}, err
	}
}

// set says whether any of the settings is there.
func (s *shell) set(names ...string) bool {
	for _, n := range names {
		if s.env(n) != "" {
			return true
		}
	}
	return false
}

func (s *shell) busChecks(examining) ([]doctor.Check, error) {
	if !s.set("ServiceBus", "ServiceBus__fullyQualifiedNamespace") {
		return []doctor.Check{doctor.NotConfigured("service bus", "ServiceBus__fullyQualifiedNamespace is not set")}, nil
	}
	cfg, err := config.Load(s.lookup, config.ServiceBus)
	if err != nil {
		return nil, &usageError{err}
	}
	entities, err := connect.Entities(cfg.ServiceBus)
	if err != nil {
		return nil, err
	}
	return []doctor.Check{doctor.ServiceBus(infra.Entities, busOf{entities})}, nil
}

func (s *shell) tableChecks(examining) ([]doctor.Check, error) {
	if !s.set("Tables", "Tables__endpoint", "Tables__accountName") {
		return []doctor.Check{doctor.NotConfigured("tables", "Tables__accountName is not set")}, nil
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	return []doctor.Check{doctor.Tables(infra.Tables, store, s.now)}, nil
}

func (s *shell) azureChecks(e examining) ([]doctor.Check, error) {
	if !s.set("AZURE_SUBSCRIPTION_IDS") {
		return []doctor.Check{doctor.NotConfigured("networks", "AZURE_SUBSCRIPTION_IDS is not set"), doctor.NotConfigured("permissions", "AZURE_SUBSCRIPTION_IDS is not set"), doctor.NotConfigured("data rights", "AZURE_SUBSCRIPTION_IDS is not set")}, nil
	}
	cfg, err := config.Load(s.lookup, config.Azure)
	if err != nil {
		return nil, &usageError{err}
	}
	azure, err := connect.Network(cfg, config.Connection{}, s.now, connect.Watch{})
	if err != nil {
		return nil, err
	}
	rights, err := connect.Rights(cfg)
	if err != nil {
		return nil, err
	}
	out := []doctor.Check{doctor.Networks(cfg.Subscriptions, azure, cfg.Rules), doctor.Permissions(cfg.Subscriptions, e.principal, infra.Role, rightsOf{rights})}
	switch group, err := access.ParseScope(e.group); {
	case e.group == "" || e.principal == "":
		out = append(out, doctor.NotConfigured("data rights", "name the deployment's resource group with --deployment-group, and its identity with --principal"))
	case err != nil || group.ResourceGroup() == "" || group.Type() != "":
		return nil, usagef("--deployment-group takes the id of a resource group")
	default:
		out = append(out, doctor.DataPermissions(string(group), e.principal, rightsOf{rights}))
	}
	if e.vm == "" {
		return append(out, doctor.NotConfigured("dry run", "name a machine with --vm")), nil
	}
	vm, err := access.ParseVM(e.vm)
	if err != nil {
		return nil, &usageError{err}
	}
	source, err := access.ParseSource(e.source)
	if err != nil {
		return nil, &usageError{err}
	}
	planner := broker.Previewer{Machines: azure, Groups: azure, Rules: cfg.Rules}
	return append(out, doctor.DryRun(doctor.Target{VM: vm, Port: e.port, Source: access.FormatPrefix(source)}, func(ctx context.Context, t doctor.Target) ([]broker.Preview, error) {
		return planner.Preview(ctx, t.VM, t.Port, source, s.now())
	})), nil
}

func (s *shell) tellReport(r *doctor.Report) error {
	if s.json() {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"findings": r.Findings}); err != nil {
			return err
		}
	} else {
		s.tellFindings(r.Findings)
	}
	if r.Worst() == doctor.Problem {
		return exitf(exitFailed, "something is wrong with the deployment")
	}
	return nil
}

func (s *shell) tellFindings(all []doctor.Finding) {
	color := map[doctor.Level]string{doctor.OK: green, doctor.Problem: red}
	for _, f := range all {
		level := fmt.Sprintf("%-8s", f.Level)
		fmt.Fprintf(s.out, "%s %-12s %s\n", s.colored(s.colorOut && color[f.Level] != "", color[f.Level], level), f.Check, clean(f.What))
		if f.Mend != "" {
			fmt.Fprintf(s.out, "%21s → %s\n", "", clean(f.Mend))
		}
	}
}
