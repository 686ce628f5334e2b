package portal_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// ask requests port 22 of web-1 for a time such as "45s".
func (p *tab) ask(time string) {
	p.t.Helper()
	p.press("#nav", "Machines")
	p.press("[data-machine=web-1]", "Request access to web-1")
	p.fill("dialog [data-port='22']", "For", "other")
	p.fill("dialog [data-port='22']", "How long", time)
	p.fill("dialog [data-field=justification]", "Justification", "look at the logs")
	p.press("dialog", "Request")
}

// TestADayOfAnAdministrator goes on where the first walk ends: time runs out, is
// extended, is taken away; everything is locked down; the machine is disabled.
func TestADayOfAnAdministrator(t *testing.T) {
	b := browser(t)
	stack, url := serveLocal(t)
	admin, alice := open(t, b, desktop, url), open(t, b, desktop, url)
	admin.signIn("admin@contoso.com", ruler)
	alice.signIn("alice@contoso.com", asker)
	alice.see("main", "There is no machine that you may see.")

	admin.press("[data-machine=web-1]", "Enable web-1")
	admin.fill("dialog [data-port='22']", "May be asked for from", "203.0.113.0/24")
	admin.press("dialog", "Show what will be done")
	admin.press("dialog", "Do this")
	expectOurs(t, stack, "Deny * 22")
	alice.run(chromedp.Navigate(url))

	const open22 = "Allow " + address + " 22"
	alice.ask("4s")
	expectOurs(t, stack, "Deny * 22", open22)
	alice.see(".grant", "Open for another")
	expectOurs(t, stack, "Deny * 22")
	alice.gone(".grant")
	alice.see("main", "Nothing is open for you.")

	alice.ask("20m")
	alice.see(".countdown", "0:19:")
	alice.press(".request", "Extend access to web-1")
	alice.fill("dialog", "From now", "7200")
	alice.press("dialog", "Extend…")
	alice.see(".countdown", "1:59:")
	alice.await("one grant in place of two", `document.querySelectorAll(".grant").length === 1`)
	expectOurs(t, stack, "Deny * 22", open22)

	admin.press("#nav", "Administration")
	admin.run(chromedp.Navigate(url+"/#admin"), chromedp.Reload())
	admin.press(".request", "Revoke access of alice@contoso.com to web-1")
	admin.fill("dialog", "Reason", "wrong machine")
	admin.press("dialog", "Revoke…")
	admin.gone(".grant")
	expectOurs(t, stack, "Deny * 22")
	alice.press("#nav", "History")
	alice.see(".history", "Revoked")
	alice.do(`document.querySelector(".history summary").click()`)
	alice.see(".history", "Revoked by an administrator.")
	alice.see(".timeline", "Opened")
	alice.shoot("day-history")

	alice.ask("20m")
	expectOurs(t, stack, "Deny * 22", open22)
	admin.press(".lock", "Lock down…")
	admin.fill("dialog", "Reason", "a laptop was stolen")
	admin.press("dialog", "Shut every door")
	admin.see("#lockdown", "a laptop was stolen")
	expectOurs(t, stack, "Deny * 22")
	alice.run(chromedp.Navigate(url))
	alice.see("#lockdown", "a laptop was stolen")
	alice.ask("20m")
	alice.see("dialog .summary", "a laptop was stolen")
	alice.shoot("day-locked-down")
	alice.press("dialog", "Cancel")
	expectOurs(t, stack, "Deny * 22")
	admin.press(".lock", "Lift the lockdown")
	admin.press("dialog", "Lift the lockdown")
	admin.gone("#lockdown .banner")

	admin.press("#nav", "Machines")
	admin.press("[data-machine=web-1]", "Disable web-1")
	admin.see("dialog", "Removed, all of them ours:")
	admin.shoot("day-disable")
	expectOurs(t, stack, "Deny * 22")
	admin.press("dialog", "Do this")
	admin.gone("dialog")
	expectOurs(t, stack)
	admin.see("[data-machine=web-1]", "Not configured")
}
