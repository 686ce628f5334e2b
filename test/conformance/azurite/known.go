package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// exception is a rule of Table Storage, or of its answers, that Azurite does not
// keep, and every difference that comes of it.
type exception struct {
	reason string
	// at are "step | aspect", where a * stands for any text: where such a
	// difference has to be.
	at []string
}

// judge prints the differences under the exceptions that they belong to, and
// gives an error of those that belong to none, and of the places in the list
// where there is no difference.
func judge(w io.Writer, found []difference, list []exception) error {
	excused := make([]bool, len(found))
	var wrong []error
	fmt.Fprintln(w, "Azurite differs, and why that is right:")
	for _, e := range list {
		var lines []string
		for _, at := range e.at {
			pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(at), `\*`, ".*") + "$")
			times := 0
			for i, d := range found {
				if pattern.MatchString(d.String()) {
					excused[i], times = true, times+1
				}
			}
			lines = append(lines, fmt.Sprintf("    %s (%d)\n", at, times))
			if times == 0 {
				wrong = append(wrong, fmt.Errorf("%s: it is on the list, and the answers are the same", at))
			}
		}
		fmt.Fprintf(w, "  %s\n%s", e.reason, strings.Join(lines, ""))
	}
	count := 0
	for i, d := range found {
		if excused[i] {
			count++
			continue
		}
		wrong = append(wrong, fmt.Errorf("%s: it is not on the list\n  ours   %s\n  theirs %s", d, d.ours, d.theirs))
	}
	fmt.Fprintf(w, "%d differences, %d of them on the list\n", len(found), count)
	return errors.Join(wrong...)
}

// String names the difference as the list does.
func (d difference) String() string { return d.step + " | " + d.aspect }

// known is the list. The rules are those of the REST reference for Table
// Storage, "Understanding the Table service data model" and "Querying tables and
// entities" above all.
func known() []exception {
	return append(knownRules(), knownAnswers()...)
}

// knownRules are what Azurite does and Table Storage refuses.
func knownRules() []exception {
	return []exception{
		{"A transaction stays within one partition.", []string{
			"transactions: two partitions | 202 + 400 CommandsInBatchActOnDifferentPartitions, not 202 + 201 + 201",
		}},
		{"An entity holds at most 1 MiB.", []string{
			"refused entities: more than 1 MiB | 400 EntityTooLarge, not 201",
		}},
		{"An entity has at most 252 properties besides the three of the system.", []string{
			"refused entities: 253 properties | 400 TooManyProperties, not 201",
		}},
		{"Property names follow the rules of C# identifiers and have at most 255 characters.", []string{
			"refused entities: property name with a blank | 400 PropertyNameInvalid, not 201",
			"refused entities: property name with a dash | 400 PropertyNameInvalid, not 201",
			"refused entities: property name with a digit first | 400 PropertyNameInvalid, not 201",
			"refused entities: long property name | 400 PropertyNameTooLong, not 201",
			"transactions: a bad entity | 202 + 400 PropertyNameInvalid, not 202 + 201 + 201",
		}},
		{"A value is one of its type: Azurite stores what it cannot read, and does not answer where it knows no such type.", []string{
			"refused entities: early date | 400 OutOfRangeInput, not 201",
			"refused entities: bad date | 400 InvalidInput, not 201",
			"refused entities: bad GUID | 400 InvalidInput, not 201",
			"refused entities: bad Int64 | 400 InvalidInput, not 201",
			"refused entities: Int64 out of range | 400 InvalidInput, not 201",
			"refused entities: bad binary | 400 InvalidInput, not 201",
			"refused entities: unknown type | 400 InvalidInput, not 500 (no code)",
		}},
		{"$top lies between 1 and 1,000.", []string{
			"queries: top 1001 | 400 InvalidInput, not 200",
			"queries: top 0 | 400 InvalidInput, not 200",
		}},
		{"A text in a $filter ends with its quote.", []string{
			"filters: S eq 'open | 400 InvalidInput, not 200",
		}},
		{"Keys are texts.", []string{
			"refused entities: numeric key | 400 InvalidInput, not 500 (no code)",
		}},
		{"A signature holds for fifteen minutes.", []string{
			"shared keys: sixteen minutes old | 403 AuthenticationFailed, not 200",
			"shared keys: sixteen minutes early | 403 AuthenticationFailed, not 200",
		}},
		{"The words and constants of a $filter are as written in the reference, and no other; it has at most 15 comparisons.", []string{
			"filters: I EQ 5 | 400 InvalidInput, not 200",
			"filters: I eq 5 AND B eq true | 400 InvalidInput, not 200",
			"filters: S eq \"x\" | 400 InvalidInput, not 200",
			"filters: I eq 5x | 400 InvalidInput, not 200",
			"filters: I eq 1.2.3 | 400 InvalidInput, not 200",
			"filters: When eq datetime'yesterday' | 400 InvalidInput, not 200",
			"filters: G eq guid'5' | 400 InvalidInput, not 200",
			"filters: Bin eq X'zz' | 400 InvalidInput, not 200",
			"filters: I eq 99999999999999999999L | 400 InvalidInput, not 500 (no code)",
			"filters: I eq 1 or I eq 1 or * | 400 InvalidInput, not 200",
		}},
		{"$orderby is not supported, and a table has nothing below it.", []string{
			"queries: order | 501 NotImplemented, not 200",
			"queries: deeper path | 400 InvalidInput, not 200",
		}},
		{"If-None-Match is not for updates, and in a transaction too a delete needs If-Match.", []string{
			"update: If-None-Match | 400 InvalidInput, not 204",
			"transactions: delete without If-Match | 202 + 400 MissingRequiredHeader, not 202 + 201 + 204",
		}},
	}
}
