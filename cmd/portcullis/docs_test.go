package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestTheCommandsAreDocumented holds docs/cli.md against the commands.
func TestTheCommandsAreDocumented(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# The command line\n\n`make build` puts `portcullis` into `bin`. `portcullis completion --help` says how a shell is made to complete its\ncommands, flags, machines and requests. `NO_COLOR` turns colours off.\n\n")
	related := regexp.MustCompile(`(?s)### SEE ALSO\n.*`)
	var tell func(*cobra.Command)
	tell = func(c *cobra.Command) {
		if !c.IsAvailableCommand() && c.HasParent() || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		c.DisableAutoGenTag = true
		var one bytes.Buffer
		if err := doc.GenMarkdown(c, &one); err != nil {
			t.Fatal(err)
		}
		text := related.ReplaceAllString(one.String(), "")
		// What every command has is said once, at the first.
		if c.HasParent() {
			text = regexp.MustCompile("(?s)### Options inherited from parent commands\n\n```\n.*?```\n\n").ReplaceAllString(text, "")
		} else {
			text = strings.Replace(text, "### Synopsis\n\n"+c.Long, "```text\n"+c.Long+"\n```", 1)
		}
		b.WriteString(text)
		for _, child := range c.Commands() {
			tell(child)
		}
	}
	tell(newFake(t).desk(nil).command())
	got := strings.TrimRight(b.String(), "\n") + "\n"
	const file = "../../docs/cli.md"
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != got {
		t.Errorf("%s is not what the commands say: run the test with UPDATE_DOCS=1", file)
	}
	for _, code := range []string{"0  done", "130  interrupted"} {
		if !strings.Contains(got, code) {
			t.Errorf("the exit code %q is not documented", code)
		}
	}
}
