// Command portcullis is the person's and the operator's tool: asking for
// access, switching it on, and the last closer.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // conditions name zones, and an image may have none

	"github.com/portcullis-access/portcullis/internal/connect"
	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, surroundings(), os.Args[1:])
	stop()
	os.Exit(code)
}

// surroundings are those of this process.
func surroundings() *shell {
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	_, plain := os.LookupEnv("NO_COLOR") // https://no-color.org
	plain = plain && os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb"
	return &shell{
		in: os.Stdin, out: os.Stdout, errs: os.Stderr, lookup: os.LookupEnv, now: time.Now, sleep: sleep, credential: connect.UserToken, anchors: connectAnchors,
		asks: isTerminal(os.Stdin) && isTerminal(os.Stderr), spins: isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb",
		colorOut: isTerminal(os.Stdout) && !plain, colorErr: isTerminal(os.Stderr) && !plain,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
