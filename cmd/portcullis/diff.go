package main

import "strings"

// maxDiff bounds the work of a comparison, in pairs of lines; what is larger is
// shown as all old, then all new.
const maxDiff = 4 << 20

// diff gives the lines of two texts that differ, marked - and +, with those
// around them; nothing if they are the same.
func diff(old, new string) []string {
	if old == new {
		return nil
	}
	a, b := lines(old), lines(new)
	if len(a)*len(b) > maxDiff {
		return append(marked("-", a), marked("+", b)...)
	}
	// common[i][j] is how long the longest common part of a[i:] and b[j:] is.
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

func marked(mark string, list []string) (out []string) {
	for _, l := range list {
		out = append(out, mark+" "+l)
	}
	return out
}
