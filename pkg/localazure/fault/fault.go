// Package fault makes a stand-in fail on demand, the same way each time: a plan
// of rules says which operations are to be slow, refused, cut off or held.
//
// Every rule has its own count and its own random numbers, drawn from the plan's
// seed, so what one rule does depends on the operations that match it and their
// order alone, not on what other operations there are between them.
package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is what befalls an operation. What it looks like to the client, each
// stand-in's own document says.
type Kind string

// The kinds.
const (
	Slow      Kind = "slow"       // it takes effect only after Delay
	Throttle  Kind = "throttle"   // refused for now: too much was asked for; Delay is what Retry-After says
	Conflict  Kind = "conflict"   // refused for now: another writer was there
	Lock      Kind = "lock"       // refused because of a lock, or of one that was lost
	LoseReply Kind = "lose-reply" // it takes effect, and its answer never arrives
	Drop      Kind = "drop"       // the connection ends before it takes effect
	Refuse    Kind = "refuse"     // refused for good: the caller has no right to it
	Pause     Kind = "pause"      // it takes effect once the plan is replaced
	Kill      Kind = "kill"       // the process that serves it dies, Delay after it began
)

// Rule is one way to fail.
type Rule struct {
	// On names operations, in any case; a * stands for any text. What an operation
	// is called, each stand-in's document says.
	On string `json:"on"`
	// Do is what befalls them.
	Do Kind `json:"do"`
	// Delay belongs to slow, throttle and kill, as a Go duration such as "1.5s".
	Delay Duration `json:"delay,omitzero"`
	// Skip lets as many operations pass first.
	Skip int `json:"skip,omitzero"`
	// Times ends the rule after as many faults; 0 never ends it.
	Times int `json:"times,omitzero"`
	// Chance is the share of operations to befall, above 0 and at most 1; 0 means
	// all of them.
	Chance float64 `json:"chance,omitzero"`
}

// Plan is a list of rules, of which the first that strikes counts.
type Plan struct {
	Seed  uint64 `json:"seed,omitzero"`
	Rules []Rule `json:"rules"`
}

// Duration is a time.Duration, in JSON a text such as "250ms".
type Duration time.Duration

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration as Go does; a negative one is an error.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if v < 0 {
		return errors.New("a delay cannot be negative")
	}
	*d = Duration(v)
	return nil
}

// Strike is a fault that befalls one operation.
type Strike struct {
	Kind  Kind
	Delay time.Duration

	replaced <-chan struct{}
}

// Hold waits as long as a slow or paused operation must, and not at all for one
// of another kind. It gives the context's error if that ends first.
func (s *Strike) Hold(ctx context.Context) error {
	var after <-chan time.Time
	switch s.Kind {
	case Slow:
		t := time.NewTimer(s.Delay)
		defer t.Stop()
		after = t.C
	case Pause:
	default:
		return nil
	}
	select {
	case <-after:
	case <-s.replaced:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Over says whether the plan that struck has been replaced: what was held goes on.
func (s *Strike) Over() bool {
	select {
	case <-s.replaced:
		return true
	default:
		return false
	}
}

// Injector holds the plan of one stand-in. It is safe for concurrent use.
type Injector struct {
	kinds []Kind

	mu       sync.Mutex
	plan     Plan
	rules    []*rule
	replaced chan struct{}
}

type rule struct {
	Rule
	on      *regexp.Regexp
	random  *rand.Rand
	matched int
	struck  int
}

// New makes an injector for a stand-in that knows the kinds; its plan is empty.
func New(kinds ...Kind) *Injector {
	return &Injector{kinds: kinds, replaced: make(chan struct{})}
}

// Set replaces the plan: counts start anew, and what is paused or slow goes on.
// A faulty plan changes nothing.
func (i *Injector) Set(p Plan) error {
	rules := make([]*rule, 0, len(p.Rules))
	for n, r := range p.Rules {
		if err := i.check(r); err != nil {
			return fmt.Errorf("rule %d: %w", n, err)
		}
		pattern := "(?is)^" + strings.ReplaceAll(regexp.QuoteMeta(r.On), `\*`, ".*") + "$"
		rules = append(rules, &rule{Rule: r, on: regexp.MustCompile(pattern), random: rand.New(rand.NewPCG(p.Seed, uint64(n)))})
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan, i.rules = p, rules
	close(i.replaced)
	i.replaced = make(chan struct{})
	return nil
}

func (i *Injector) check(r Rule) error {
	switch {
	case r.On == "":
		return errors.New(`"on" names no operation; "*" is every one`)
	case !slices.Contains(i.kinds, r.Do):
		return fmt.Errorf("%q cannot be done here; one of %v can", r.Do, i.kinds)
	case r.Do == Slow && r.Delay <= 0:
		return errors.New("slow needs a delay")
	case r.Delay != 0 && r.Do != Slow && r.Do != Throttle && r.Do != Kill:
		return fmt.Errorf("a delay means nothing to %s", r.Do)
	case r.Delay < 0 || r.Skip < 0 || r.Times < 0:
		return errors.New("delay, skip and times cannot be negative")
	case !(r.Chance >= 0 && r.Chance <= 1): // NaN too
		return errors.New("a chance lies between 0 and 1")
	}
	return nil
}

// Take counts an operation and gives what befalls it, or nil.
func (i *Injector) Take(operation string) *Strike {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.rules {
		if r.on.MatchString(operation) && r.strikes() {
			return &Strike{Kind: r.Do, Delay: time.Duration(r.Delay), replaced: i.replaced}
		}
	}
	return nil
}

func (r *rule) strikes() bool {
	r.matched++
	if r.matched <= r.Skip || (r.Times > 0 && r.struck == r.Times) {
		return false
	}
	if r.Chance > 0 && r.random.Float64() >= r.Chance {
		return false
	}
	r.struck++
	return true
}

// Count is how a rule has fared since the plan was set.
type Count struct {
	// Matched operations, and those of them that were struck.
	Matched int `json:"matched"`
	Struck  int `json:"struck"`
}

// State gives the plan and a count for each of its rules.
func (i *Injector) State() (Plan, []Count) {
	i.mu.Lock()
	defer i.mu.Unlock()
	counts := make([]Count, len(i.rules))
	for n, r := range i.rules {
		counts[n] = Count{Matched: r.matched, Struck: r.struck}
	}
	return i.plan, counts
}
