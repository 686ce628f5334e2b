package main

import (
	"fmt"
	"sync"
	"time"
)

// spinner shows on a terminal that something goes on. Elsewhere it writes what it
// is told, each on a line.
type spinner struct {
	s    *shell
	mu   sync.Mutex
	text string
	quit chan struct{}
	gone chan struct{}
}

// spin shows a spinner with a text and gives what ends it. Where nobody watches
// it does nothing.
func (s *shell) spin(text string) (stop func()) { return s.spinner(text).stop }

func (s *shell) spinner(text string) *spinner {
	p := &spinner{s: s, text: text}
	if s.spins {
		p.quit, p.gone = make(chan struct{}), make(chan struct{})
		go p.turn()
	}
	return p
}

func (p *spinner) turn() {
	defer close(p.gone)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	const frames = `|/-\`
	for i := 0; ; i++ {
		select {
		case <-p.quit:
			fmt.Fprint(p.s.errs, "\r\x1b[K")
			return
		case <-tick.C:
			p.mu.Lock()
			text := []rune(p.text)
			p.mu.Unlock()
			// A longer line would wrap, and then not be wiped out.
			fmt.Fprintf(p.s.errs, "\r\x1b[K%c %s", frames[i%len(frames)], string(text[:min(len(text), 70)]))
		}
	}
}

// say changes the text.
func (p *spinner) say(text string) {
	text = clean(text)
	if p.quit == nil {
		fmt.Fprintln(p.s.errs, text)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

// stop wipes it out. It may be called once.
func (p *spinner) stop() {
	if p.quit != nil {
		close(p.quit)
		<-p.gone
	}
}
