// Package portal_test walks the self-service page in a headless Chromium.
package portal_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// requireBrowser is the variable that makes a missing browser a failure.
const requireBrowser = "PORTCULLIS_TEST_BROWSER"

// patience bounds the wait for any one thing that the page is to show.
const patience = 10 * time.Second

// browser starts Chromium with a profile of its own, or skips the test and says
// why.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv(requireBrowser) != "" {
			t.Fatalf("%s is set, and there is no browser: install Debian's chromium", requireBrowser)
		}
		t.Skip("no browser on this machine (Debian's package chromium): the page is not tested")
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir()), // it leaves folders there
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatal(err)
	}
	return ctx
}

// look is how a person's browser is set.
type look struct {
	name, language string
	width, height  int64
	dark           bool
}

var desktop = look{name: "desktop-en", language: "en-GB", width: 1200, height: 900}

// tab is one page with nothing of any other's.
type tab struct {
	t      *testing.T
	ctx    context.Context
	look   look
	mu     sync.Mutex
	faults []string
}

func open(t *testing.T, browser context.Context, l look, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx, look: l}
	if err := chromedp.Listen(ctx, p.listen); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	set(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 600})
	set(p, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: "Mozilla/5.0 (test)", AcceptLanguage: l.language})
	set(p, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"})
	set(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	p.run(chromedp.Navigate(url))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.faults {
			t.Errorf("the browser complains: %s", f)
		}
		if t.Failed() {
			t.Logf("the page reads:\n%s", p.text("body"))
		}
	})
	return p
}

// listen keeps what the page did wrong: exceptions and broken policies. That an
// answer was a refusal is no fault of the page.
func (p *tab) listen(event any) {
	var fault string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Text
		if o := e.ExceptionDetails.Exception; o != nil {
			fault += " " + o.Description
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork || e.Entry.Source == log.EntrySourceSecurity {
			fault = fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	}
	if fault != "" {
		p.mu.Lock()
		p.faults = append(p.faults, fault)
		p.mu.Unlock()
	}
}

// set gives the tab's browser a setting.
func set[P, R any](p *tab, command cdp.Command[P, R], params P) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, command, params); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// do runs a script for what it does.
func (p *tab) do(script string) {
	p.t.Helper()
	p.run(chromedp.Evaluate[chromedp.Void](script))
}

// key presses keys, wherever the focus is.
func (p *tab) key(keys string) {
	p.t.Helper()
	p.run(chromedp.KeyEvent(keys))
}

// eval gives an expression's value.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// text is what can be read in the first element that fits.
func (p *tab) text(selector string) string {
	return eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// await waits until an expression is true. One that cannot be told is not: the
// page may just be leaving for another.
func (p *tab) await(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	for ; ; time.Sleep(50 * time.Millisecond) {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && is {
			return
		}
		if ctx.Err() != nil {
			p.t.Fatalf("never seen: %s (%v)", what, err)
		}
	}
}

// see waits until the element shows the text.
func (p *tab) see(selector, text string) {
	p.t.Helper()
	p.await(fmt.Sprintf("%q in %s", text, selector), fmt.Sprintf(`[...document.querySelectorAll(%q)].some((n) => n.checkVisibility() && n.innerText.includes(%q))`, selector, text))
}

// gone waits until no element that fits can be seen.
func (p *tab) gone(selector string) {
	p.t.Helper()
	p.await("the end of "+selector, fmt.Sprintf(`![...document.querySelectorAll(%q)].some((n) => n.checkVisibility())`, selector))
}

// press clicks the control with that accessible name, within an element.
func (p *tab) press(within, name string) {
	p.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll(%q + " :is(button, a, summary, label)")].find((n) => n.checkVisibility() && !n.disabled && (n.ariaLabel ?? n.innerText).trim() === %q)`, within, name)
	p.await(fmt.Sprintf("the control %q in %s", name, within), find)
	p.do("(" + find + ").click()")
}

// fill types into a field, by its label.
func (p *tab) fill(within, label, value string) {
	p.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll(%q + " :is(input, textarea, select)")].find((n) => n.checkVisibility() && (n.ariaLabel ?? n.labels?.[0]?.innerText ?? "").trim().startsWith(%q))`, within, label)
	p.await(fmt.Sprintf("the field %q in %s", label, within), find)
	p.do(fmt.Sprintf(`{ const n = %[1]s; n.focus(); n.value = %[2]q; if (n.value !== %[2]q) throw new Error("it does not take " + %[2]q); n.dispatchEvent(new Event("input", { bubbles: true })); n.dispatchEvent(new Event("change", { bubbles: true })); }`, find, value))
}

// shoot keeps a picture of the page where PORTCULLIS_TEST_PICTURES says.
func (p *tab) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("PORTCULLIS_TEST_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.Join([]string{p.look.name, name}, "-")+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
