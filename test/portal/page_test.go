package portal_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

const (
	asker = "Access.Request"
	ruler = "Portcullis.Administer"
)

var looks = []look{
	desktop, {name: "desktop-ja-dark", language: "ja-JP,ja,en", width: 1200, height: 900, dark: true},
	{name: "phone-en-dark", language: "en-US", width: 390, height: 844, dark: true}, {name: "phone-ja", language: "ja", width: 390, height: 844},
}

// words are some of the page's, by language.
var words = map[string]map[string]string{
	"en": {"machines": "Machines", "access": "My access", "history": "History", "admin": "Administration", "exposed": "Port 3389 is open to the internet by rule AllowRdpFromAnywhere in nsg-db-1-nic.",
		"ask": "Request access to web-1", "enable": "Enable db-1", "locked": "Locked down.", "open": "Open for another", "lock": "Lock down…"},
	"ja": {"machines": "仮想マシン", "access": "自分のアクセス", "history": "履歴", "admin": "管理", "exposed": "ポート 3389 は nsg-db-1-nic の規則 AllowRdpFromAnywhere によりインターネットに開かれています。",
		"ask": "web-1 へのアクセスを要求", "enable": "db-1 を有効化", "locked": "ロックダウン中です。", "open": "残り", "lock": "ロックダウン…"},
}

func TestPage(t *testing.T) {
	b := browser(t)
	for _, l := range looks {
		t.Run(l.name, func(t *testing.T) {
			w := words[l.language[:2]]
			p := open(t, b, l, someDay(asker, ruler).serve(t))
			p.see("h1", w["machines"])
			p.see("[data-machine=db-1]", w["exposed"])
			if got := eval[string](p, "document.documentElement.lang"); got != l.language[:2] {
				t.Errorf("the page says its language is %s", got)
			}
			p.shoot("machines")
			p.fits()
			p.press("#nav", w["access"])
			p.see(".grant", w["open"])
			p.await("a countdown", `/^0:4\d:\d\d$/.test(document.querySelector(".countdown").textContent)`)
			p.shoot("access")
			p.fits()
			p.press("#nav", w["history"])
			p.see(".history", "web-1:22")
			p.do(`document.querySelectorAll(".history summary")[2].click(); document.querySelectorAll(".history summary")[3].click()`)
			p.see(".timeline", "pc-abc-22")
			p.shoot("history")
			p.fits()
			p.press("#nav", w["admin"])
			p.see(".card", "bob@contoso.com")
			p.shoot("admin")
			p.fits()
			p.press("#nav", w["machines"])
			p.press("[data-machine=web-1]", w["ask"])
			p.do(`document.querySelector("dialog [data-port='3389'] [role=switch]").click()`)
			p.see("dialog", "203.0.113.7")
			p.shoot("request")
			p.fits()
			p.key(kb.Escape)
			p.gone("dialog")
			p.press("[data-machine=db-1]", w["enable"])
			p.see("dialog h2", "db-1")
			p.shoot("enable")
			p.fits()
		})
	}
	t.Run("lockdown", func(t *testing.T) {
		for _, l := range looks {
			p := open(t, b, l, someDay(asker, ruler).lockedDown().serve(t))
			p.see("#lockdown", words[l.language[:2]]["locked"])
			// What the API says is text, whatever it looks like.
			p.see("#lockdown", "<b>nobody</b>")
			p.see("[data-machine=web-1]", "web-1")
			p.shoot("locked-down")
		}
	})
	t.Run("signed out", func(t *testing.T) {
		api := someDay(asker)
		api.reads["/api/me"] = doc{"title": "Unauthorized", "reason": "token_missing"}
		api.status["GET /api/me"] = http.StatusUnauthorized
		p := open(t, b, desktop, api.serve(t))
		p.see("main", "Sign in")
		if got := eval[string](p, `document.querySelector("main a").getAttribute("href")`); got != "/.auth/login/aad?post_login_redirect_uri=/" {
			t.Errorf("signing in leads to %s", got)
		}
		p.shoot("signed-out")
	})
	t.Run("no role", func(t *testing.T) {
		p := open(t, b, desktop, someDay().serve(t))
		p.see("main", "You have no role here yet")
		p.see("main", "alice@contoso.com")
	})
	t.Run("one who may only ask", func(t *testing.T) {
		p := open(t, b, desktop, someDay(asker).serve(t))
		p.see("[data-machine=web-1]", "Request access")
		if text := p.text("body"); strings.Contains(text, "Administration") || strings.Contains(text, "Enable…") || strings.Contains(text, "Disable…") {
			t.Errorf("what an administrator may do is shown: %s", text)
		}
	})
	t.Run("keyboard", func(t *testing.T) { keyboard(t, open(t, b, desktop, someDay(asker, ruler).serve(t))) })
	t.Run("names", func(t *testing.T) { everyControlHasAName(t, open(t, b, desktop, someDay(asker, ruler).serve(t))) })
	t.Run("writes", func(t *testing.T) { api := someDay(asker, ruler); writes(t, api, open(t, b, desktop, api.serve(t))) })
	t.Run("a session that runs out", func(t *testing.T) {
		api := someDay(asker)
		api.stale, api.renew = true, true
		p := open(t, b, desktop, api.serve(t))
		p.see("[data-machine=web-1]", "Request access") // a new token was had, and nobody noticed
		api.set(func(f *fakeAPI) { f.stale, f.renew = true, false })
		p.press("[data-machine=web-2]", "Request access to web-2")
		p.press("dialog", "Request")
		p.see("dialog .summary", "the token has expired: sign in again")
	})
	t.Run("a server that cannot be reached", func(t *testing.T) {
		api := someDay(asker)
		p := open(t, b, desktop, api.serve(t))
		p.see("[data-machine=web-1]", "Request access")
		api.set(func(f *fakeAPI) {
			f.status["POST /api/access-requests"] = http.StatusServiceUnavailable
			f.reply["POST /api/access-requests"] = doc{"title": "Service Unavailable", "detail": "the request could not be handled now; try again", "reason": "tables_unavailable"}
		})
		p.press("[data-machine=web-2]", "Request access to web-2")
		p.press("dialog", "Request")
		p.see("dialog .summary", "the request could not be handled now; try again")
	})
}

// fits checks that nothing has to be scrolled sideways.
func (p *tab) fits() {
	p.t.Helper()
	if wide := eval[[]string](p, `[...document.querySelectorAll("body *")].filter((n) => n.checkVisibility() && !n.closest(".scroll, #nav, .hidden-text, .toasts") && n.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((n) => n.tagName + "." + n.className)`); len(wide) > 0 {
		p.t.Errorf("wider than the screen: %v", wide)
	}
}

// keyboard goes from the top to an answer without a pointer.
func keyboard(t *testing.T, p *tab) {
	p.see("[data-machine=web-1]", "Request access")
	focus := func() string {
		return eval[string](p, `((n) => n.ariaLabel ?? n.labels?.[0]?.innerText.split("\n")[0] ?? n.innerText)(document.activeElement).trim()`)
	}
	seen := []string{}
	for range 40 {
		p.key(kb.Tab)
		seen = append(seen, focus())
		if eval[string](p, `getComputedStyle(document.activeElement).outlineStyle`) == "none" {
			t.Errorf("the focus on %q cannot be seen", focus())
		}
		if focus() == "Request access to web-1" {
			break
		}
	}
	order := []string{"Skip to content", "Machines", "My access", "History", "Administration", "Sign out", "Find a machine", "State", "Choose web-1, to ask for several at once", "Request access to web-1"}
	at := 0
	for _, name := range seen {
		if at < len(order) && name == order[at] {
			at++
		}
	}
	if at < len(order) {
		t.Fatalf("the focus goes %q, and misses %q", seen, order[at])
	}
	p.key(kb.Enter)
	p.see("dialog h2", "Request access to web-1")
	p.await("the focus in the dialog", `document.activeElement.closest("dialog")`)
	for range 30 {
		p.key(kb.Tab)
		if !eval[bool](p, `document.activeElement === document.body || Boolean(document.activeElement.closest("dialog"))`) {
			t.Fatalf("the focus left the dialog, to %q", focus())
		}
		if eval[bool](p, `document.activeElement.matches("[data-port='3389'] [role=switch]")`) {
			break
		}
	}
	p.key(" ")
	p.await("the switch on", `document.querySelector("[data-port='3389'] [role=switch]").checked`)
	p.see("[data-port='3389']", "My address 203.0.113.7")
	p.key(kb.Escape)
	p.gone("dialog")
	if got := focus(); got != "Request access to web-1" {
		t.Errorf("the dialog gives the focus back to %q", got)
	}
}

// everyControlHasAName looks at every view and dialog.
func everyControlHasAName(t *testing.T, p *tab) {
	nameless := func(where string) {
		t.Helper()
		if bad := eval[[]string](p, `[...document.querySelectorAll("button, a, input, select, textarea, fieldset, table, nav, dialog, [role=region], [role=group]")].filter((n) => n.checkVisibility()).filter((n) =>
			!(n.ariaLabel || n.labels?.[0]?.innerText || n.querySelector(":scope > legend, :scope > caption")?.textContent || document.getElementById(n.getAttribute("aria-labelledby"))?.innerText || (n.matches("button, a") && n.innerText))).map((n) => n.outerHTML.slice(0, 120))`); len(bad) > 0 {
			t.Errorf("%s: no name for %v", where, bad)
		}
		if bad := eval[[]string](p, `[...document.querySelectorAll("[aria-labelledby], [aria-describedby]")].flatMap((n) => ["aria-labelledby", "aria-describedby"].flatMap((a) => (n.getAttribute(a) ?? "").split(" "))).filter((id) => id && !document.getElementById(id))`); len(bad) > 0 {
			t.Errorf("%s: names that lead nowhere: %v", where, bad)
		}
		if twice := eval[[]string](p, `[...document.querySelectorAll("[id]")].map((n) => n.id).filter((id, i, all) => all.indexOf(id) !== i)`); len(twice) > 0 {
			t.Errorf("%s: ids twice: %v", where, twice)
		}
		if n := eval[int](p, `document.querySelectorAll("h1").length`); n != 1 {
			t.Errorf("%s: %d first headings", where, n)
		}
	}
	p.see("[data-machine=web-1]", "Request access")
	nameless("machines")
	for _, c := range [][2]string{{"web-1", "Request access to web-1"}, {"db-1", "Enable db-1"}} {
		p.press("[data-machine="+c[0]+"]", c[1])
		p.see("dialog h2", c[0])
		p.do(`document.querySelectorAll("dialog [role=switch]:not(:checked)").forEach((n) => n.click()); document.querySelectorAll("dialog details").forEach((n) => { n.open = true; })`)
		nameless(c[1])
		p.press("dialog", "Cancel")
		p.gone("dialog")
	}
	for _, view := range []string{"My access", "History", "Administration"} {
		p.press("#nav", view)
		p.see("h1", view)
		p.await("the focus on the heading", `document.activeElement.matches("h1")`)
		if title := eval[string](p, "document.title"); !strings.HasPrefix(title, view) {
			t.Errorf("%s: the title is %q", view, title)
		}
		nameless(view)
	}
}

// writes checks what the page sends, for each thing that it can change.
func writes(t *testing.T, api *fakeAPI, p *tab) {
	one := func(method, path string) write {
		t.Helper()
		var found []write
		for end := time.Now().Add(patience); len(found) == 0; time.Sleep(20 * time.Millisecond) {
			if found = api.written(method, path); time.Now().After(end) {
				t.Fatalf("%s %s was never sent", method, path)
			}
		}
		return found[len(found)-1]
	}
	p.press("#nav", "My access")
	p.press("[data-request=ar-1]", "Give back web-1:22")
	if w := one("POST", "/api/access-requests/ar-1/revoke"); len(w.body["grants"].([]any)) != 1 || w.body["grants"].([]any)[0] != 0.0 {
		t.Errorf("sent %v", w)
	}
	p.press("[data-request=ar-1]", "Extend access to web-1, db-1")
	p.fill("dialog", "From now", "other")
	p.fill("dialog", "How long", "80m")
	p.press("dialog", "Extend…")
	p.gone("dialog")
	if w := one("POST", "/api/access-requests/ar-1/extend"); w.body["duration"] != "PT1H20M" || w.body["justification"] != "Look at the slow queries of the shop" {
		t.Errorf("sent %v", w)
	}
	p.press("#nav", "Administration")
	p.press("[data-request=ar-9]", "Revoke access of bob@contoso.com to dual-1")
	p.fill("dialog", "Reason", "wrong machine")
	p.press("dialog", "Revoke…")
	p.gone("dialog")
	if w := one("POST", "/api/access-requests/ar-9/revoke"); w.body["reason"] != "wrong machine" {
		t.Errorf("sent %v", w)
	}
	p.press(".lock", "Lock down…")
	p.press("dialog", "Shut every door")
	p.see("dialog", "Say why: people will ask.")
	p.fill("dialog", "Reason", "drill")
	p.shoot("lock")
	api.set(func(f *fakeAPI) { f.lockedDown() })
	p.press("dialog", "Shut every door")
	p.see("#lockdown", "Locked down.")
	if w := one("PUT", "/api/lockdown"); w.body["reason"] != "drill" || w.header.Get("X-Portcullis-Request") != "1" || w.header.Get("Sec-Fetch-Site") != "same-origin" || w.header.Get("Content-Type") != "application/json" {
		t.Errorf("sent %v with %v", w, w.header)
	}
	api.set(func(f *fakeAPI) { f.reads["/api/lockdown"] = doc{"active": false} })
	p.press(".lock", "Lift the lockdown")
	p.press("dialog", "Lift the lockdown")
	one("DELETE", "/api/lockdown")
	p.gone("#lockdown .banner")
	several(t, api, p, one)
}

// several asks for two machines at once, later, from a range.
func several(t *testing.T, api *fakeAPI, p *tab, one func(method, path string) write) {
	p.press("#nav", "Machines")
	for _, name := range []string{"web-1", "web-2"} {
		p.do(`document.querySelector("[data-machine='` + name + `'] .pick").click()`)
	}
	p.see(".chosen", "2 machines chosen")
	p.press(".chosen", "Request access")
	p.do(`for (const [m, n] of [["web-1", 3389], ["web-2", 22]]) document.querySelector("dialog [data-machine='" + m + "'][data-port='" + n + "'] [role=switch]").click()`)
	p.do(`document.querySelector("dialog [data-machine=web-2] [value=range]").click()`)
	p.press("dialog", "Request")
	p.see("dialog", "Give an address, or a range such as 203.0.113.0/24.")
	p.see("dialog", "The policy demands a justification.")
	p.fill("dialog [data-machine=web-2]", "Address or range", "203.0.113.0/28")
	p.fill("dialog", "Justification", "upgrade")
	p.do(`document.querySelector("dialog details").open = true`)
	p.fill("dialog", "Opens at", "2099-01-02T03:04")
	api.set(func(f *fakeAPI) {
		f.reply["POST /api/access-requests"] = doc{"id": "ar-20", "outcome": "Accepted", "startTimeUtc": "2099-01-02T03:04:00Z", "virtualMachines": []doc{{"id": vm("web-1"), "ports": []doc{
			{"index": 0, "number": 3389, "allowedSourceAddressPrefix": "203.0.113.7", "status": "Scheduled", "endTimeUtc": "2099-01-02T04:04:00Z"}}}}}
	})
	p.press("dialog", "Request")
	p.see("h1", "My access")
	w := one("POST", "/api/access-requests")
	machines := w.body["virtualMachines"].([]any)
	first, second := machines[0].(doc)["ports"].([]any)[0].(doc), machines[1].(doc)["ports"].([]any)[0].(doc)
	if _, given := first["allowedSourceAddressPrefix"]; given || first["number"] != 3389.0 || first["duration"] != "PT1H" ||
		second["allowedSourceAddressPrefix"] != "203.0.113.0/28" || w.body["startTimeUtc"] != "2099-01-02T03:04:00.000Z" || w.body["justification"] != "upgrade" ||
		len(w.header.Get("Idempotency-Key")) < 16 || slices.Contains([]any{machines[0].(doc)["id"], machines[1].(doc)["id"]}, nil) {
		t.Errorf("sent %v", w)
	}
}
