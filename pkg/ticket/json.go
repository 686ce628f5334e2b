package ticket

import (
	_ "embed"
	stdjson "encoding/json"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/portcullis-access/portcullis/pkg/access"
)

//go:embed schemas/ticket-source.schema.json
var sourceSchema []byte

// SourceSchema gives the JSON Schema of a source.
func SourceSchema() []byte { return sourceSchema }

type sourceDoc struct {
	Name    string            `json:"name"`
	Kind    string            `json:"kind"`
	Secrets []string          `json:"secrets"`
	Users   map[string]string `json:"users,omitempty"`
	MaxAge  *string           `json:"maxAge,omitempty"`
	Mapping mappingDoc        `json:"mapping"`
	Sample  jsontext.Value    `json:"sample"`
}

type mappingDoc struct {
	When        string `json:"when,omitempty"`
	Ticket      string `json:"ticket"`
	At          string `json:"at,omitempty"`
	State       string `json:"state,omitempty"`
	Assignee    string `json:"assignee,omitempty"`
	Actor       string `json:"actor,omitempty"`
	WindowStart string `json:"windowStart,omitempty"`
	WindowEnd   string `json:"windowEnd,omitempty"`
	Ends        string `json:"ends,omitempty"`
	Request     string `json:"request,omitempty"`
}

// DecodeSource reads a source of at most MaxSource bytes. What is unknown, said
// twice, null or spelled in another case is refused. Errors: invalid_argument,
// source_invalid, with every fault at its place. The expressions are not looked
// at: see [Source.Validate].
func DecodeSource(data []byte) (Source, error) {
	f := &faults{}
	if len(data) > MaxSource {
		f.add("", "body_too_large", "the source has %d bytes; %d are allowed", len(data), MaxSource)
		return Source{}, f.error()
	}
	if f.shape(data); len(f.list) > 0 {
		return Source{}, f.error()
	}
	var doc sourceDoc
	if err := json.Unmarshal(data, &doc, json.RejectUnknownMembers(true), json.MatchCaseInsensitiveNames(false)); err != nil {
		f.unmarshal(err)
		return Source{}, f.error()
	}
	s := Source{Name: doc.Name, Kind: Kind(doc.Kind), Secrets: doc.Secrets, Users: doc.Users, Mapping: Mapping(doc.Mapping)}
	s.MaxAge = maxAges[s.Kind]
	if doc.MaxAge != nil {
		var err error
		if s.MaxAge, err = access.ParseDuration(*doc.MaxAge); err != nil {
			f.add("maxAge", "duration_invalid", "%s", access.AsError(err).Message)
			s.MaxAge = MinMaxAge // named once, not twice
		}
	} else if s.MaxAge == 0 {
		s.MaxAge = MinMaxAge // of no known kind, which check names
	}
	if doc.Sample != nil {
		sample := doc.Sample.Clone()
		if err := sample.Compact(); err != nil {
			f.add("sample", "not_json", "the sample is not valid JSON")
		}
		s.Sample = stdjson.RawMessage(sample)
	}
	s.check(f)
	if err := f.error(); err != nil {
		return Source{}, err
	}
	return s, nil
}

// EncodeSource gives the source's one JSON form, which DecodeSource reads back to
// the same source (but for its Version, which is not part of it).
func EncodeSource(s Source) ([]byte, error) {
	age := access.FormatDuration(s.MaxAge)
	doc := sourceDoc{
		Name: s.Name, Kind: string(s.Kind), Secrets: s.Secrets, Users: s.Users, MaxAge: &age,
		Mapping: mappingDoc(s.Mapping), Sample: jsontext.Value(s.Sample),
	}
	return json.Marshal(doc, jsontext.WithIndent("  "), json.Deterministic(true))
}

// shape walks the tokens once, before anything is decoded.
func (f *faults) shape(data []byte) {
	_, err := parse(data)
	if e := access.AsError(err); err != nil {
		f.add("", e.Reason, "%s", e.Message)
		return
	}
	d := jsontext.NewDecoder(strings.NewReader(string(data)))
	for first := true; first || d.StackDepth() > 0; first = false {
		t, err := d.ReadToken()
		if err != nil {
			f.add("", "not_json", "the source is not valid JSON")
			return
		}
		where := d.StackPointer()
		switch {
		case first && t.Kind() != '{':
			f.add("", "not_an_object", "the source is not a JSON object")
			return
		case t.Kind() == 'n':
			f.add(pointer(where), "null", "%s is null: give a value or leave it out", pointer(where))
		case d.StackDepth() == 1 && where == "/sample" && d.PeekKind() != 'n':
			// What a stranger's payload looks like is not ours to say.
			if err := d.SkipValue(); err != nil {
				f.add("sample", "not_json", "the sample is not valid JSON")
				return
			}
		}
	}
}

func (f *faults) unmarshal(err error) {
	se, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		f.add("", "not_json", "the source is not valid JSON")
		return
	}
	where := pointer(se.JSONPointer)
	if errors.Is(se.Err, json.ErrUnknownName) {
		f.add(where, "field_unknown", "the field %s is not known (names are case-sensitive)", where)
		return
	}
	f.add(where, "type_invalid", "%s has a value of the wrong type", where)
}

// pointer turns a JSON Pointer into the notation of violations.
func pointer(p jsontext.Pointer) string {
	var b strings.Builder
	for tok := range p.Tokens() {
		switch {
		case tok != "" && strings.Trim(tok, "0123456789") == "":
			b.WriteString("[" + shown(tok) + "]")
			continue
		case b.Len() > 0:
			b.WriteByte('.')
		}
		b.WriteString(shown(tok))
	}
	s := b.String()
	return s[:min(len(s), 512)]
}
