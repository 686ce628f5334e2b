package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// compared are the headers whose values clients act on.
var compared = []string{
	"Content-Type", "Etag", "Location", "Dataserviceid", "Preference-Applied", "Content-Id", "X-Ms-Client-Request-Id",
	"X-Ms-Continuation-Nextpartitionkey", "X-Ms-Continuation-Nextrowkey", "X-Ms-Continuation-Nexttablename",
}

// difference is one aspect in which two answers are not the same.
type difference struct {
	step         string // "scenario: step"
	aspect       string // what differs: a header's name, or the body, or both outcomes
	ours, theirs string
}

// compare gives what differs: the outcomes, which are status and error code, or
// where those are the same all the rest.
func compare(step string, ours, theirs form) []difference {
	if ours.outcome != theirs.outcome {
		return []difference{{step, ours.outcome + ", not " + theirs.outcome, ours.outcome, theirs.outcome}}
	}
	var all []difference
	aspects := maps.Clone(ours.aspects)
	maps.Copy(aspects, theirs.aspects)
	for _, aspect := range slices.Sorted(maps.Keys(aspects)) {
		if a, b := ours.aspects[aspect], theirs.aspects[aspect]; a != b {
			all = append(all, difference{step, aspect, a, b})
		}
	}
	return all
}

// form is an answer without what no two answers have in common.
type form struct {
	outcome string
	aspects map[string]string
}

// normalise makes the form of an answer that came from base.
func normalise(a *answer, base string) (form, error) {
	f := form{outcome: strconv.Itoa(a.status), aspects: map[string]string{}}
	failed := a.status >= 400
	if failed {
		f.outcome += " " + code(a.body, a.header.Get("x-ms-error-code"))
	}
	for _, name := range compared {
		// The type of an error's body goes with its code; that of no body says nothing.
		if v := a.header.Get(name); v != "" && !(name == "Content-Type" && (failed || a.body == "")) {
			f.aspects[name] = header(name, v, base)
		}
	}
	media, params, _ := mime.ParseMediaType(a.header.Get("Content-Type")) // no type is none of those below
	var err error
	switch {
	case failed || a.body == "":
	case media == "multipart/mixed":
		err = f.parts(a.body, params["boundary"], base)
	case media == "application/xml":
		f.aspects["body"], err = canonicalXML(a.body)
	default:
		f.aspects["body"], err = canonicalJSON(a.body, base)
	}
	return f, err
}

// code is an error's code in the body, JSON or XML, and the header's if that is
// another.
func code(body, header string) string {
	var doc struct {
		Error struct{ Code string } `json:"odata.error"`
	}
	var x struct {
		Code string `xml:"code"`
		// Storage's own XML errors are written so.
		Old string `xml:"Code"`
	}
	found := ""
	if json.Unmarshal([]byte(body), &doc) == nil {
		found = doc.Error.Code
	} else if xml.Unmarshal([]byte(body), &x) == nil {
		found = x.Code + x.Old
	}
	if found == "" {
		found = "(no code)"
	}
	if header != "" && header != found {
		found += ", in the header " + header
	}
	return found
}

var etag = regexp.MustCompile(`^W/"datetime'\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\d(\.\d+)?Z'"$`)

func header(name, value, base string) string {
	switch {
	case strings.HasPrefix(name, "X-Ms-Continuation"):
		return "(a token)"
	case name == "Etag":
		return tag(value)
	case name == "Content-Type":
		media, params, err := mime.ParseMediaType(value)
		if err != nil {
			return value
		}
		if media == "multipart/mixed" {
			prefix, _, _ := strings.Cut(params["boundary"], "_")
			return media + "; boundary=" + prefix + "_…"
		}
		return strings.TrimSuffix(media+";odata="+params["odata"], ";odata=")
	}
	return strings.ReplaceAll(value, base, "{base}")
}

func tag(value string) string {
	if etag.MatchString(value) {
		return "(an ETag)"
	}
	return value
}

// canonicalJSON has sorted keys and, as Timestamp and ETag, only that they are
// well-formed.
func canonicalJSON(body, base string) (string, error) {
	d := json.NewDecoder(strings.NewReader(strings.ReplaceAll(body, base, "{base}")))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("more than one JSON value")
	}
	blank(v)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func blank(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			blank(item)
		}
	case map[string]any:
		for name, item := range v {
			text, _ := item.(string)
			switch name {
			case "odata.etag":
				v[name] = tag(text)
			case "Timestamp":
				if _, err := time.Parse(time.RFC3339Nano, text); err == nil && strings.HasSuffix(text, "Z") {
					v[name] = "(a time)"
				}
			default:
				blank(item)
			}
		}
	}
}

// canonicalXML is the elements with text in their order; white space between
// elements does not count.
func canonicalXML(body string) (string, error) {
	var b strings.Builder
	for d := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(body, "\ufeff"))); ; {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.StartElement:
			b.WriteString("<" + t.Name.Local + ">")
		case xml.EndElement:
			b.WriteString("</" + t.Name.Local + ">")
		case xml.CharData:
			b.WriteString(strings.TrimSpace(string(t)))
		}
	}
}

// parts adds the operations inside a batch's answer, and their outcomes to its.
func (f *form) parts(body, boundary, base string) error {
	r := multipart.NewReader(strings.NewReader(body), boundary)
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return err
		}
		media, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			return err
		}
		if media == "multipart/mixed" {
			err = f.parts(string(b), params["boundary"], base)
		} else {
			err = f.part(string(b), base)
		}
		if err != nil {
			return err
		}
	}
}

func (f *form) part(text, base string) error {
	// Clients look for the status line and not at what is before it, which
	// Azurite does not always keep in order.
	at := strings.Index(text, "HTTP/1.1 ")
	if at < 0 {
		return errors.New("a part has no status line")
	}
	head, body, _ := strings.Cut(text[at:], "\r\n\r\n")
	line, lines, _ := strings.Cut(head, "\r\n")
	status, err := strconv.Atoi(strings.Fields(line + " -")[1])
	if err != nil {
		return err
	}
	body, _, _ = strings.Cut(body, "\r\n--") // an end too many
	a := &answer{status: status, header: map[string][]string{}, body: strings.TrimSpace(body)}
	for line := range strings.SplitSeq(lines, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		a.header[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = []string{strings.TrimSpace(value)}
	}
	inner, err := normalise(a, base)
	if err != nil {
		return err
	}
	n := strings.Count(f.outcome, "+")
	f.outcome += " + " + inner.outcome
	for aspect, v := range inner.aspects {
		f.aspects["part "+strconv.Itoa(n)+" "+aspect] = v
	}
	return nil
}
