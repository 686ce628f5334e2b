package simulate

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// schedule runs use cases in a synctest bubble, one call of a port at a time.
// Every call waits until its event comes; which comes when is drawn from the
// seed over a stably sorted list, so that the same seed is the same story.
type schedule struct {
	rng    *rand.Rand
	events events
	seq    int

	mu      sync.Mutex
	fresh   []*call
	running map[*actor]bool
	over    bool
	bell    chan struct{}

	actors int
	steps  int
	// fate says when a fresh call has its effect and what becomes of its reply.
	fate func(*call)
	// after runs after every step.
	after func()
	// broken is the first broken promise.
	broken error
}

func newSchedule(seed uint64) *schedule {
	return &schedule{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), running: map[*actor]bool{}, bell: make(chan struct{}, 1)}
}

// event is something that happens at a time; of two at one time the first that
// was planned.
type event struct {
	at  time.Time
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (s *schedule) at(t time.Time, do func()) {
	s.seq++
	heap.Push(&s.events, event{t, s.seq, do})
}

func (s *schedule) in(d time.Duration, do func()) { s.at(time.Now().Add(d), do) }

// chance is true that often.
func (s *schedule) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

// between draws a duration.
func (s *schedule) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)+1))
}

func pick[T any](s *schedule, list []T) T { return list[s.rng.IntN(len(list))] }

// actor is one run of a use case on one instance.
type actor struct {
	id       int
	name     string
	began    time.Time
	instance int
	nsg      access.ResourceID // the one it works on; "" for several
	dead     bool              // cut off: none of its calls gets through any more
	calls    int               // that it has made
	stall    stall             // where it stands still
	faulted  bool              // something of it went wrong by the adversary's doing
	byRules  bool              // it closes by what the rules say of themselves
	cancel   context.CancelFunc
	err      error
	done     func(error)
	// seen is what it last read of each NSG's partition.
	seen map[access.ResourceID]sight
	// read is when it first read each version of a group, by the count of its calls.
	read map[string]int
	// free is by which of its calls it last read that there is no lockdown.
	free int
	// open is what stood open in each group when it last read that.
	open map[access.ResourceID][]door
}

type actorKey struct{}

// call is a use case's call of a port.
type call struct {
	actor  *actor
	port   port
	name   string
	arg    string
	effect func() (any, error)
	reply  chan result
	gone   bool // nobody waits for the reply any more
	goneAt time.Time
	ended  bool // it is the actor's end, and no call
	// twins are the same call made by other goroutines of the actor at the same
	// time: nobody can tell which is which, so that all have one fate.
	twins []*call
	came  result // what a twin's effect gave
}

// port is what a call goes to.
type port string

const (
	theStore port = "store"
	theQueue port = "queue"
	theCloud port = "Resource Manager"
)

type result struct {
	value any
	err   error
}

// spawn starts a use case, which stands still at one of its calls or at none; done
// runs on the schedule once it has ended.
func (s *schedule) spawn(name string, instance int, nsg access.ResourceID, where stall, run func(context.Context) error, done func(a *actor, err error)) {
	s.actors++
	a := &actor{id: s.actors, name: name, began: time.Now(), instance: instance, nsg: nsg, stall: where, seen: map[access.ResourceID]sight{}, read: map[string]int{}, open: map[access.ResourceID][]door{}}
	a.done = func(err error) { done(a, err) }
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), actorKey{}, a))
	a.cancel = cancel
	s.mu.Lock()
	s.running[a] = true
	s.mu.Unlock()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				s.mu.Lock()
				s.broken = a.err
				s.mu.Unlock()
			}
			cancel()
			s.register(&call{actor: a, name: "~end", ended: true})
		}()
		a.err = run(ctx)
	}()
}

func (s *schedule) register(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ended {
		delete(s.running, c.actor)
	}
	if s.over {
		return false
	}
	s.fresh = append(s.fresh, c)
	select {
	case s.bell <- struct{}{}:
	default:
	}
	return true
}

// cutOff is what an actor that was cut off gets from every call.
func cutOff() error { return access.Errorf(access.Unavailable, "cut_off", "cut off") }

// ask makes a call of a port and waits for its turn.
func ask[T any](s *schedule, ctx context.Context, to port, name, arg string, effect func() (T, error)) (T, error) {
	var none T
	a := ctx.Value(actorKey{}).(*actor)
	if err := ctx.Err(); err != nil {
		return none, access.Wrap(err, access.Unavailable, "canceled", "the call was given up")
	}
	c := &call{actor: a, port: to, name: name, arg: arg, reply: make(chan result, 1), effect: func() (any, error) { return effect() }}
	if !s.register(c) {
		return none, cutOff()
	}
	select {
	case r := <-c.reply:
		v, _ := r.value.(T)
		return v, r.err
	case <-ctx.Done():
		s.mu.Lock()
		c.gone, c.goneAt = true, time.Now()
		s.mu.Unlock()
		return none, access.Wrap(ctx.Err(), access.Unavailable, "canceled", "the call was given up")
	}
}

// take gives the fresh calls their fates, in an order that does not depend on
// how goroutines were run. answered tells that some go on already.
func (s *schedule) take() (answered bool) {
	s.mu.Lock()
	fresh := s.fresh
	s.fresh = nil
	s.mu.Unlock()
	if len(fresh) > 1 {
		fresh = unite(fresh)
	}
	for _, c := range fresh {
		switch {
		case c.ended:
			s.in(0, func() { c.actor.done(c.actor.err) })
		case c.actor.dead:
			c.answer(result{err: cutOff()})
			answered = true
		default:
			s.fate(c)
		}
	}
	return answered
}

// unite sorts calls and makes one of those that are the same.
func unite(calls []*call) (out []*call) {
	slices.SortStableFunc(calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.actor.id, b.actor.id), cmp.Compare(a.name, b.name), cmp.Compare(a.arg, b.arg))
	})
	for _, c := range calls {
		if n := len(out); n > 0 && !c.ended && out[n-1].actor == c.actor && out[n-1].name == c.name && out[n-1].arg == c.arg {
			out[n-1].twins = append(out[n-1].twins, c)
			continue
		}
		out = append(out, c)
	}
	return out
}

// answer gives the call's reply, and its twins theirs where it is an error; what
// their effects gave they are told as they have them.
func (c *call) answer(r result) {
	for _, t := range append(slices.Clip(c.twins), c) {
		if t.gone {
			continue
		}
		if t != c && r.err == nil {
			t.reply <- t.came
		} else {
			t.reply <- r
		}
	}
}

// run lets everything happen until the time.
func (s *schedule) run(until time.Time) {
	for s.broken == nil {
		synctest.Wait()
		if s.take() {
			continue
		}
		now, next := time.Now(), until
		if len(s.events) > 0 && s.events[0].at.Before(until) {
			next = s.events[0].at
		}
		if wait := next.Sub(now); wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-s.bell:
			}
			t.Stop()
			continue
		}
		if len(s.events) == 0 || s.events[0].at.After(now) || !s.events[0].at.Before(until) {
			return
		}
		e := heap.Pop(&s.events).(event)
		s.steps++
		e.do()
		s.after()
	}
}

// end ends every use case that still runs, so that the bubble can be left.
func (s *schedule) end() {
	s.mu.Lock()
	s.over = true
	fresh := s.fresh
	s.fresh = nil
	running := make([]*actor, 0, len(s.running))
	for a := range s.running {
		running = append(running, a)
	}
	s.mu.Unlock()
	for _, a := range running {
		a.dead = true
		a.cancel()
	}
	for _, c := range fresh {
		if c.reply != nil {
			c.reply <- result{err: cutOff()}
		}
	}
	for len(running) > 0 {
		time.Sleep(time.Minute)
		synctest.Wait()
		s.mu.Lock()
		left := len(s.running)
		s.mu.Unlock()
		if left == 0 {
			return
		}
	}
}
