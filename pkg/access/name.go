package access

import "strings"

// FoldName gives a requestor's name as names are compared: the ASCII letters in
// lower case, all others as they are. strings.EqualFold would take the Kelvin
// sign for a k, and so take whoever can register such a name for another.
func FoldName(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// SameName says whether two names are the same requestor's; no name is nobody's.
func SameName(a, b string) bool { return a != "" && FoldName(a) == FoldName(b) }
