package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const base = "http://127.0.0.1:1/devstoreaccount1"

func TestNormalise(t *testing.T) {
	const stamp = `W/"datetime'2024-01-02T03%3A04%3A05.1234567Z'"`
	for name, test := range map[string]struct {
		answer answer
		want   form
	}{
		"an entity": {
			answer{201, http.Header{"Content-Type": {"application/json;odata=nometadata;charset=utf-8"}, "Etag": {stamp}, "Location": {base + "/T(x)"}, "Date": {"today"}},
				`{"odata.etag":"W/\"datetime'2024-01-02T03%3A04%3A05Z'\"","Timestamp":"2024-01-02T03:04:05Z","B":2.0,"A":"<"}`},
			form{"201", map[string]string{"Content-Type": "application/json;odata=nometadata", "Etag": "(an ETag)", "Location": "{base}/T(x)",
				"body": `{"A":"<","B":2.0,"Timestamp":"(a time)","odata.etag":"(an ETag)"}`}},
		},
		"what is malformed stays": {
			answer{200, http.Header{"Content-Type": {"application/json"}, "Etag": {"x"}}, `{"value":[{"odata.etag":"y","Timestamp":"now"}]}`},
			form{"200", map[string]string{"Content-Type": "application/json", "Etag": "x", "body": `{"value":[{"Timestamp":"now","odata.etag":"y"}]}`}},
		},
		"a refusal": {
			answer{404, http.Header{"Content-Type": {"application/json"}}, `{"odata.error":{"code":"TableNotFound","message":{"value":"…"}}}`},
			form{"404 TableNotFound", map[string]string{}},
		},
		"a refusal in XML": {answer{403, nil, `<?xml version="1.0"?><Error><Code>No</Code></Error>`}, form{"403 No", map[string]string{}}},
		"two codes": {
			answer{404, http.Header{"X-Ms-Error-Code": {"Other"}}, `{"odata.error":{"code":"TableNotFound"}}`},
			form{"404 TableNotFound, in the header Other", map[string]string{}},
		},
		"no code": {answer{500, nil, "oops"}, form{"500 (no code)", map[string]string{}}},
		"XML": {
			answer{200, http.Header{"Content-Type": {"application/xml"}}, "\ufeff<?xml version=\"1.0\"?>\n<A>\n  <B>x</B><C/>\n</A>"},
			form{"200", map[string]string{"Content-Type": "application/xml", "body": "<A><B>x</B><C></C></A>"}},
		},
		"a page": {
			answer{200, http.Header{"X-Ms-Continuation-Nextrowkey": {"1!4!MQ--"}}, `{}`},
			form{"200", map[string]string{"X-Ms-Continuation-Nextrowkey": "(a token)", "body": "{}"}},
		},
		"a transaction": {
			answer{202, http.Header{"Content-Type": {"multipart/mixed; boundary=batchresponse_1"}}, strings.ReplaceAll(`--batchresponse_1
Content-Type: multipart/mixed; boundary=changesetresponse_2

--changesetresponse_2
Content-Type: application/http

HTTP/1.1 204 No Content
ETag: `+stamp+`
Content-ID: 7


--changesetresponse_2
Content-Type: application/http

HTTP/1.1 400 Bad Request

{"odata.error":{"code":"InvalidInput"}}
--changesetresponse_2--
--batchresponse_1--
`, "\n", "\r\n")},
			form{"202 + 204 + 400 InvalidInput", map[string]string{
				"Content-Type": "multipart/mixed; boundary=batchresponse_…", "part 0 Etag": "(an ETag)", "part 0 Content-Id": "7"}},
		},
	} {
		got, err := normalise(&test.answer, base)
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(form{})); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for name, a := range map[string]answer{
		"JSON that is cut":       {200, nil, `{"A":`},
		"JSON twice":             {200, nil, `{}{}`},
		"XML that is cut":        {200, http.Header{"Content-Type": {"application/xml"}}, `<A>`},
		"a batch that is no one": {202, http.Header{"Content-Type": {"multipart/mixed; boundary=b"}}, "x"},
	} {
		if got, err := normalise(&a, base); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCompare(t *testing.T) {
	ours := form{"200", map[string]string{"Etag": "a", "body": "x", "Location": "here"}}
	for name, test := range map[string]struct {
		theirs form
		want   []string
	}{
		"the same":         {ours, nil},
		"other outcome":    {form{"404 None", nil}, []string{"s | 200, not 404 None"}},
		"other body":       {form{"200", map[string]string{"Etag": "a", "body": "y", "Location": "here"}}, []string{"s | body"}},
		"no Location":      {form{"200", map[string]string{"Etag": "a", "body": "x"}}, []string{"s | Location"}},
		"one more, in all": {form{"200", map[string]string{"Etag": "b", "body": "x", "Location": "here", "Content-Id": "1"}}, []string{"s | Content-Id", "s | Etag"}},
	} {
		var got []string
		for _, d := range compare("s", ours, test.theirs) {
			got = append(got, d.String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestJudge(t *testing.T) {
	found := []difference{{"s: one", "body", "x", "y"}, {"s: two", "200, not 404 None", "200", "404 None"}}
	list := func(at ...string) []exception { return []exception{{"because of that", at}} }
	for name, test := range map[string]struct {
		list []exception
		want []string
	}{
		"all listed":                {list("s: one | body", "s: two | 200, not 404 None"), nil},
		"all listed by a pattern":   {list("s: * | *"), nil},
		"one is not listed":         {list("s: one | body"), []string{"s: two | 200, not 404 None: it is not on the list", "theirs 404 None"}},
		"another outcome is listed": {list("s: one | body", "s: two | 200, not 500 None"), []string{"not 404 None: it is not on the list", "not 500 None: it is on the list, and"}},
		"one does not occur":        {list("s: * | *", "s: three | body"), []string{"s: three | body: it is on the list, and the answers are the same"}},
	} {
		var printed strings.Builder
		err := judge(&printed, found, test.list)
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, text := range test.want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not tell %q", name, err, text)
			}
		}
		if !strings.Contains(printed.String(), "because of that") {
			t.Errorf("%s: no reason is printed:\n%s", name, &printed)
		}
	}
}

// The list names steps by their names, so these must not repeat.
func TestEveryStepHasAName(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenarios() {
		for _, step := range s.steps {
			name := s.name + ": " + step.name
			if step.name == "" || names[name] {
				t.Errorf("%q: no name, or one that was there before", name)
			}
			names[name] = true
		}
	}
}

// Both sides are ours: nothing may differ, whatever a run leaves behind.
func TestPlayAgainstItself(t *testing.T) {
	var sides [2]*endpoint
	for i := range sides {
		e, stop, err := startOurs()
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		sides[i] = e
	}
	for _, s := range scenarios() {
		found, err := play(t.Context(), "Table", s, sides[0], sides[1])
		if err != nil || len(found) > 0 {
			t.Fatalf("%s: %v, %+v", s.name, err, found)
		}
		for _, e := range sides {
			if _, err := e.do(t.Context(), remove("clean up", "/Tables('{T}')")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestWithoutNode(t *testing.T) {
	t.Setenv("PATH", "")
	if _, err := install(t.Context(), t.TempDir()); !errors.Is(err, errNoNode) {
		t.Errorf("got %v", err)
	}
}
