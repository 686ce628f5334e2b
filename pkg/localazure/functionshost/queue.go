package functionshost

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	// settleTimeout bounds completing and abandoning: the SDK's own retries take
	// some 44 s to give a dead broker up.
	settleTimeout = 30 * time.Second
	// closeTimeout bounds closing a receiver or a client, so that a broker that
	// went first does not hold up the host's end.
	closeTimeout = 5 * time.Second
	// Pauses between attempts at a queue that cannot be reached.
	retryFirst, retryLast = 250 * time.Millisecond, 5 * time.Second
)

// runQueue is the listener of one trigger without sessions: up to
// maxConcurrentCalls messages are with the handler at once, and no more than
// that are taken from the queue. It returns when ctx ends and every message in
// flight is settled or given up.
func (h *Host) runQueue(ctx context.Context, f *function, opener queueOpener) {
	pause := backoff{}
	for ctx.Err() == nil {
		r, err := opener.Open(f.queue)
		if err == nil {
			err = h.receiveAll(ctx, f, r, &pause)
			h.closeReceiver(ctx, f, r)
		}
		if ctx.Err() == nil && err != nil {
			h.log.Warn("receiving failed", "function", f.Name, "entity", f.Source, "error", err)
			pause.wait(ctx)
		}
	}
}

func (h *Host) receiveAll(ctx context.Context, f *function, r receiver, pause *backoff) error {
	slots := make(chan struct{}, f.queue.options.maxConcurrentCalls)
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case slots <- struct{}{}:
			<-slots // one is free; only this loop takes any
		case <-ctx.Done():
			return nil
		}
		messages, err := r.Receive(ctx, cap(slots)-len(slots))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			// The link broke; the SDK makes another at the next call.
			pause.wait(ctx)
			continue
		}
		pause.reset()
		for _, m := range messages {
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				h.deliver(ctx, f, r, m, nil)
			})
		}
	}
}

// deliver invokes the function with one message and settles it: completed on
// success, else abandoned, which redelivers it at once. Where the host is
// stopping, nothing is settled, as after a kill. lock is the session's, nil for
// a message that has a lock of its own.
func (h *Host) deliver(ctx context.Context, f *function, r receiver, m *azservicebus.ReceivedMessage, lock *sessionLock) {
	e, err := messageEnvelope(f, m, lock.until(), time.Now().UTC())
	if err != nil {
		h.console.line(levelError, "Function."+f.Name, err.Error())
	} else {
		stop := func() {}
		if lock == nil {
			stop = h.keepLock(ctx, f, r, m)
		}
		lost := false
		err = h.call(ctx, call{fn: f, reason: fmt.Sprintf("New ServiceBus message detected on '%s'.", f.Source), envelope: e,
			loseLock: func() { lost = true; h.loseLock(ctx, f, r, m, lock) }})
		stop()
		if lost {
			return // what cannot be settled any more
		}
	}
	if ctx.Err() != nil {
		return
	}
	settle, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := r.Settle(settle, m, err == nil); err != nil && ctx.Err() == nil {
		h.log.Warn("settling failed, the message will come again", "function", f.Name,
			"message", m.MessageID, "lockLost", isLockLost(err), "error", err)
	}
}

// keepLock renews a message's lock until the returned function is called, for
// maxAutoLockRenewalDuration at most.
func (h *Host) keepLock(ctx context.Context, f *function, r receiver, m *azservicebus.ReceivedMessage) (stop func()) {
	if m.LockedUntil == nil {
		return func() {}
	}
	return h.renewing(ctx, f, *m.LockedUntil, func(ctx context.Context) (time.Time, error) { return r.Renew(ctx, m) })
}

// renewing calls renew before each end of a lock. It ends when it is stopped,
// when maxAutoLockRenewalDuration has passed since its start, or when renewing
// fails: the lock is lost then and nothing tells the handler.
func (h *Host) renewing(ctx context.Context, f *function, until time.Time, renew func(context.Context) (time.Time, error)) (stop func()) {
	ctx, cancel := context.WithTimeout(ctx, f.queue.options.maxAutoLockRenewal)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			timer := time.NewTimer(renewDelay(time.Until(until)))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			next, err := renew(ctx)
			if err != nil {
				if ctx.Err() == nil {
					h.log.Warn("renewing a lock failed", "function", f.Name, "error", err)
				}
				return
			}
			until = next
		}
	}()
	return func() { cancel(); <-ended }
}

// renewDelay is how long to wait before renewing a lock that ends after left:
// ten seconds before its end, or at half time (ReceiverManager.CalculateRenewDelay
// of Azure.Messaging.ServiceBus).
func renewDelay(left time.Duration) time.Duration {
	if left < 400*time.Millisecond {
		return 0
	}
	return left - min(left/2, 10*time.Second)
}

// runSessions is the listener of one trigger with sessions: up to
// maxConcurrentSessions sessions are held at once, each with one message with
// the handler at a time.
func (h *Host) runSessions(ctx context.Context, f *function, opener queueOpener) {
	sessions := f.queue.options.maxConcurrentSessions
	// Not all of them wait for a session at once (ServiceBusProcessor).
	accepting := make(chan struct{}, min(sessions, 2*runtime.NumCPU()))
	var group sync.WaitGroup
	for range sessions {
		group.Go(func() {
			pause := backoff{}
			for ctx.Err() == nil {
				s, err := accept(ctx, f, opener, accepting)
				switch {
				case err == nil:
					err = h.runSession(ctx, f, s)
					h.closeReceiver(ctx, f, s)
				case errors.Is(err, errNoSession):
					continue
				}
				if err == nil {
					pause.reset()
				} else if ctx.Err() == nil {
					h.log.Warn("receiving failed", "function", f.Name, "entity", f.Source, "session", s.id, "error", err)
					pause.wait(ctx)
				}
			}
		})
	}
	group.Wait()
}

func accept(ctx context.Context, f *function, opener queueOpener, accepting chan struct{}) (session, error) {
	select {
	case accepting <- struct{}{}:
		defer func() { <-accepting }()
	case <-ctx.Done():
		return session{}, ctx.Err()
	}
	return opener.Accept(ctx, f.queue)
}

// sessionLock tells when a session's lock ends; a nil one is no session's.
type sessionLock struct {
	mu  sync.Mutex
	end time.Time
}

func (l *sessionLock) until() time.Time {
	if l == nil {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *sessionLock) set(end time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = end
}

// runSession handles a session's messages in order until none came for
// sessionIdleTimeout. The lock is renewed for maxAutoLockRenewalDuration after
// the session was accepted, not after each message (SessionReceiverManager): a
// busy session loses it even while a call runs.
func (h *Host) runSession(ctx context.Context, f *function, s session) error {
	lock := &sessionLock{end: s.lockedUntil}
	stop := h.renewing(ctx, f, s.lockedUntil, func(ctx context.Context) (time.Time, error) {
		until, err := s.Renew(ctx, nil)
		if err == nil {
			lock.set(until)
		}
		return until, err
	})
	defer stop()
	for {
		idle, cancel := context.WithTimeout(ctx, f.queue.options.sessionIdleTimeout)
		messages, err := s.Receive(idle, 1)
		expired := idle.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case len(messages) == 0 && (err == nil || expired):
			return nil // idle, or the link broke: take another session
		case err != nil:
			return err
		}
		for _, m := range messages {
			h.deliver(ctx, f, s, m, lock)
		}
	}
}

func (h *Host) closeReceiver(ctx context.Context, f *function, r receiver) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		h.log.Debug("closing a receiver", "function", f.Name, "error", err)
	}
}

// backoff is a doubling pause.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) wait(ctx context.Context) {
	b.next = min(max(b.next*2, retryFirst), retryLast)
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
