package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/nsg"
)

// walkPolicy is what a first-time user switches on for web-1: two ports, each
// from another range.
const walkPolicy = `{
  "scope": "%s",
  "ports": [
    {"number": 22, "protocol": "TCP", "allowedSourceAddressPrefix": "100.100.100.0/24", "maxRequestAccessDuration": "PT1H"},
    {"number": 3389, "protocol": "TCP", "allowedSourceAddressPrefix": "203.0.113.0/24", "maxRequestAccessDuration": "PT1H"}
  ],
  "requireJustification": true,
  "requestors": ["*"],
  "baseline": true
}`

// remote is the port that the persons of the walk use.
const remote = 3389

// exitRefused is the tool's exit code for what a policy refuses (docs/cli.md).
const exitRefused = 3

// persons are the tokens of those who take part, by name.
type persons map[string]string

func (d *story) signIn(ctx context.Context) error {
	d.persons = persons{}
	for name, role := range map[string]string{"admin": "Portcullis.Administer", "alice": "Access.Request", "bob": "Access.Request"} {
		token, err := d.stack.tool(ctx, "portcullis-local", "token", "--env-file", filepath.Join(d.stack.dir, "env"), "--as", name+"@contoso.com", "--role", role)
		if err != nil {
			return err
		}
		d.persons[name] = token
	}
	return nil
}

// as runs the command line tool as a person, and gives what it printed and its
// exit code. What is for people comes after what is for scripts.
func (d *story) as(ctx context.Context, name string, args ...string) (string, int, error) {
	d.say("%s> portcullis %s", name, strings.Join(args, " "))
	c := exec.CommandContext(ctx, filepath.Join(d.stack.bin, "portcullis"), args...)
	c.Env = append(os.Environ(), "PORTCULLIS_TOKEN="+d.persons[name])
	var out, told strings.Builder
	c.Stdout, c.Stderr = &out, &told
	err := c.Run()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code, err = exit.ExitCode(), nil
	}
	return out.String() + told.String(), code, err
}

// does is as for what must succeed.
func (d *story) does(ctx context.Context, name string, args ...string) (string, error) {
	out, code, err := d.as(ctx, name, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, out)
	}
	return out, err
}

// asks requests access and gives the request's id once it is open.
func (d *story) asks(ctx context.Context, name string, args ...string) (string, error) {
	out, err := d.does(ctx, name, append(args, "--wait", "-o", "json")...)
	if err != nil {
		return "", err
	}
	var request struct{ ID string }
	err = json.NewDecoder(strings.NewReader(out)).Decode(&request)
	return request.ID, err
}

// quote prints the lines of an output that hold a word.
func (d *story) quote(out, word string) {
	for line := range strings.Lines(out) {
		if strings.Contains(line, word) {
			d.say("   %s", strings.TrimSpace(line))
		}
	}
}

func (d *story) enabled(ctx context.Context) error {
	if err := d.signIn(ctx); err != nil {
		return err
	}
	file := filepath.Join(d.stack.dir, "walk.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, walkPolicy, d.vm), 0o600); err != nil {
		return err
	}
	out, err := d.does(ctx, "admin", "policy", "apply", "-f", file, "--plan")
	if err != nil {
		return err
	}
	d.quote(out, "-deny-")
	if err := d.holds(ctx); err != nil {
		return fmt.Errorf("a plan writes nothing: %w", err)
	}
	if _, err := d.does(ctx, "admin", "policy", "apply", "-f", file, "--yes"); err != nil {
		return err
	}
	if err := d.holds(ctx, "Deny"); err != nil {
		return err
	}
	d.say("both groups hold our deny rule for 22 and 3389")
	return nil
}

func (d *story) onePortOutside(ctx context.Context) error {
	out, code, err := d.as(ctx, "alice", "request", "--vm", "web-1", "--port", "22,3389", "--from", us, "--for", "1m", "--reason", "look at the logs")
	if err != nil {
		return err
	}
	if code != exitRefused || !strings.Contains(out, "source_outside_policy") {
		return fmt.Errorf("the whole request should be refused with exit code %d, not %d: %s", exitRefused, code, out)
	}
	d.quote(out, "does not lie inside")
	return d.holds(ctx, "Deny")
}

func (d *story) letIn(ctx context.Context) (err error) {
	if d.hers, err = d.asks(ctx, "alice", "request", "--vm", "web-1", "--port", "3389", "--from", us, "--for", "1m", "--reason", "look at the logs"); err != nil {
		return err
	}
	if err := d.expectOn(ctx, remote, us, nsg.OutcomeAllowed); err != nil {
		return err
	}
	if err := d.expectOn(ctx, remote, other, nsg.OutcomeDenied); err != nil {
		return err
	}
	if d.hers, err = d.asks(ctx, "alice", "extend", d.hers, "--for", "10m"); err != nil {
		return err
	}
	return d.expectOn(ctx, remote, us, nsg.OutcomeAllowed)
}

func (d *story) givenBack(ctx context.Context) error {
	if _, err := d.asks(ctx, "bob", "request", "--vm", "web-1", "--port", "3389", "--from", other, "--for", "10m", "--reason", "help her"); err != nil {
		return err
	}
	if _, err := d.does(ctx, "alice", "revoke", d.hers, "--wait"); err != nil {
		return err
	}
	if err := d.expectOn(ctx, remote, us, nsg.OutcomeDenied); err != nil {
		return err
	}
	return d.expectOn(ctx, remote, other, nsg.OutcomeAllowed)
}

func (d *story) lockedDown(ctx context.Context) error {
	if _, err := d.does(ctx, "admin", "lockdown", "--reason", "incident 7", "--yes"); err != nil {
		return err
	}
	if err := d.holds(ctx, "Deny"); err != nil {
		return err
	}
	if err := d.expectOn(ctx, remote, other, nsg.OutcomeDenied); err != nil {
		return err
	}
	out, code, err := d.as(ctx, "alice", "request", "--vm", "web-1", "--port", "3389", "--from", us, "--for", "1m", "--reason", "look at the logs")
	if err != nil {
		return err
	}
	if code == 0 || !strings.Contains(out, "incident 7") {
		return fmt.Errorf("nothing should be let in: %s", out)
	}
	d.quote(out, "incident 7")
	_, err = d.does(ctx, "admin", "lockdown", "--lift", "--yes")
	return err
}

func (d *story) disabled(ctx context.Context) error {
	if _, err := d.does(ctx, "admin", "disable", "web-1", "--yes"); err != nil {
		return err
	}
	return d.holds(ctx)
}

// holds waits until each group holds just these rules of ours, by their access,
// and no write of it is under way.
func (d *story) holds(ctx context.Context, want ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		told := ""
		for _, id := range d.groups {
			g, err := d.read(ctx, id)
			if err != nil {
				return err
			}
			var got []string
			for _, r := range g.Rules {
				if d.rules.Owns(r) {
					got = append(got, string(r.Access))
				}
			}
			if g.Updating || strings.Join(got, " ") != strings.Join(want, " ") {
				told = fmt.Sprintf("%s should hold %v of ours, and holds %v", id.Name(), want, got)
			}
		}
		if told == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New(told)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
