package access

import "strconv"

// quote renders untrusted text for a message: shortened, and with everything
// unprintable escaped, so that it cannot forge a log line or flood one.
func quote(s string) string {
	const most = 120
	r := []rune(s)
	if len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}
