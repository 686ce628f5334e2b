package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/client"
)

// follow reads the request again until it is done. Where nobody watches a
// spinner, each change is told on a line of its own.
func (s *shell) follow(ctx context.Context, api *client.Client, r client.AccessRequest, limit time.Duration, done func(client.AccessRequest) bool) (client.Answer[client.AccessRequest], error) {
	began := s.now()
	if r.StartTimeUTC.After(began) {
		began = r.StartTimeUTC
	}
	spinner := s.spinner("waiting")
	defer spinner.stop()
	told := ""
	for {
		now, err := api.Request(ctx, r.ID)
		if err != nil {
			// What fails for a while is not what was waited for.
			if e, ok := errors.AsType[*client.Error](err); !ok || !e.Retryable() || ctx.Err() != nil {
				return now, standing(err, r.ID)
			}
		} else {
			if line := summary(now.Value); line != told {
				spinner.say(line)
				told = line
			}
			if done(now.Value) {
				return now, nil
			}
		}
		left := began.Add(limit).Sub(s.now())
		if left <= 0 {
			return now, exitf(exitTimedOut, "waited for %s; it goes on without us: portcullis status %s --wait", span(limit), r.ID)
		}
		if err := s.sleep(ctx, min(left, s.pause(began))); err != nil {
			return now, standing(err, r.ID)
		}
	}
}

// standing says of an error while waiting that the request stands.
func standing(err error, id string) error {
	return &notedError{err, fmt.Sprintf("The request stands: portcullis status %s --wait, portcullis revoke %s", id, id)}
}

// pause is how long to wait before looking again: shortly at first, until the
// start if that is to come.
func (s *shell) pause(began time.Time) time.Duration {
	past := s.now().Sub(began)
	switch {
	case past < 0:
		return min(-past, time.Minute)
	case past < 30*time.Second:
		return time.Second
	}
	return 5 * time.Second
}

// eachPort calls for each port of the request.
func eachPort(r client.AccessRequest, do func(vm string, p client.GrantedPort)) {
	for _, vm := range r.VirtualMachines {
		for _, p := range vm.Ports {
			do(nameOf(vm.ID), p)
		}
	}
}

// summary tells each port's status in a line.
func summary(r client.AccessRequest) string {
	var out []string
	eachPort(r, func(vm string, p client.GrantedPort) {
		line := fmt.Sprintf("%s %s %s", vm, portName(p.Number, p.Protocol), p.Status)
		if w := why(p); w != "" {
			line += " (" + w + ")"
		}
		out = append(out, line)
	})
	return strings.Join(out, "; ")
}

// settled says whether no port is still on its way to being open.
func settled(r client.AccessRequest) bool {
	done := true
	eachPort(r, func(_ string, p client.GrantedPort) {
		done = done && p.Status != "Scheduled" && p.Status != "Initiating"
	})
	return done
}

// closed says whether no port is open or on its way there.
func closed(r client.AccessRequest) bool {
	done := true
	eachPort(r, func(_ string, p client.GrantedPort) {
		done = done && (p.Status == "Revoked" || p.Status == "Failed")
	})
	return done
}

// waitOpen follows a request until it is open or has failed, and tells how to
// connect.
func (s *shell) waitOpen(ctx context.Context, api *client.Client, r client.AccessRequest, limit time.Duration) error {
	got, err := s.follow(ctx, api, r, limit, settled)
	if err != nil {
		if s.json() && len(got.Raw) > 0 {
			return errors.Join(err, s.raw(s.out, got.Raw))
		}
		return err
	}
	open, not := 0, 0
	eachPort(got.Value, func(_ string, p client.GrantedPort) {
		if p.Status == "Initiated" {
			open++
		} else {
			not++
		}
	})
	if s.json() {
		err = s.raw(s.out, got.Raw)
	} else if err = s.tellRequest(got.Value); err == nil && open > 0 {
		s.tellHow(got.Value)
	}
	if err == nil && not > 0 {
		err = exitf(exitFailed, "%d of %s not open", not, count(open+not, "port"))
	}
	return err
}

// tellHow says how to connect to what is open.
func (s *shell) tellHow(r client.AccessRequest) {
	first := true
	eachPort(r, func(vm string, p client.GrantedPort) {
		how := ""
		switch {
		case p.Status != "Initiated" || p.Protocol == "UDP":
		case p.Number == 22:
			how = "ssh USER@" + vm
		case p.Number == 3389:
			how = "mstsc /v:" + vm + "   (or any RDP client)"
		case p.Number == 5985:
			how = "Enter-PSSession -ComputerName " + vm
		case p.Number == 5986:
			how = "Enter-PSSession -ComputerName " + vm + " -UseSSL"
		}
		if how == "" {
			return
		}
		if first {
			fmt.Fprintln(s.out, "\nConnect (by the machine's name or address):")
			first = false
		}
		fmt.Fprintln(s.out, "  "+clean(how))
	})
	fmt.Fprintf(s.out, "\nDone early? portcullis revoke %s\n", r.ID)
}
