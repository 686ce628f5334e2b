// Command portcullis is the operator's tool: policies, and the last closer.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "portcullis",
		Short:         "Just-in-time access to Azure virtual machines",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(policyCommand(), sweepCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "portcullis:", explain(err))
		os.Exit(1)
	}
}

// explain says an error for a person: what is wrong, and where.
func explain(err error) string {
	e := access.AsError(err)
	if len(e.Violations) == 0 {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString(e.Message)
	for _, v := range e.Violations {
		fmt.Fprintf(&b, "\n  %s: %s (%s)", v.Path, v.Message, v.Reason)
	}
	return b.String()
}
