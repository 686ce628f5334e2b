package tables_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// sourceDoc has in it what JSON may spell in more than one way.
func sourceDoc(t *testing.T, name string) ticket.Source {
	t.Helper()
	s, err := ticket.DecodeSource([]byte(`{"name":"` + name + `","kind":"standard","secrets":["PORTCULLIS_SECRET_A"],"users":{"ünï":"anna@contoso.com"},
		"mapping":{"ticket":"payload.n","when":"payload.a < 3 && payload.b > 1"},"sample":{"n":"CHG1","a":1,"b":2.0,"html":"<&>\u2028\u003c","big":"` + strings.Repeat("ü", 20_000) + `"}}`))
	check(t, err)
	return s
}

func TestASourceIsStoredUnderVersionToTheLetter(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	in := sourceDoc(t, "snow")
	first, err := w.SaveSource(ctx, in, "")
	check(t, err)
	got, err := w.Source(ctx, "snow")
	check(t, err)
	want, err := ticket.EncodeSource(in)
	check(t, err)
	text, err := ticket.EncodeSource(got)
	check(t, err)
	if diff := cmp.Diff(string(want), string(text)); diff != "" || got.Version == "" || got.Version != first.Version {
		t.Errorf("version %q came back as %q: %s", first.Version, got.Version, diff)
	}
	for _, version := range []string{"", "x"} {
		_, err := w.SaveSource(ctx, in, version)
		wantCode(t, err, access.ConditionFailed, "source_changed")
		if version != "" {
			wantCode(t, w.DeleteSource(ctx, "snow", version), access.ConditionFailed, "source_changed")
		}
	}
	in.Secrets = []string{"PORTCULLIS_SECRET_A", "PORTCULLIS_SECRET_B"}
	second, err := w.SaveSource(ctx, in, first.Version)
	check(t, err)
	if second.Version == first.Version {
		t.Error("another content has the same version")
	}
	_, err = w.SaveSource(ctx, sourceDoc(t, "jira"), "")
	check(t, err)
	if all, err := w.ListSources(ctx); err != nil || len(all) != 2 || all[0].Name != "jira" || len(all[1].Secrets) != 2 {
		t.Errorf("%d, %v", len(all), err)
	}
	for range 2 {
		check(t, w.DeleteSource(ctx, "snow", second.Version))
	}
	_, err = w.Source(ctx, "snow")
	wantCode(t, err, access.NotFound, "row_missing")
	_, err = w.SaveSource(ctx, in, second.Version)
	wantCode(t, err, access.ConditionFailed, "source_changed")
}

// A source that cannot be read vouches for nobody.
func TestASourceThatCannotBeReadIsAnError(t *testing.T) {
	w, ctx := newWorld(t, 1000), t.Context()
	for name, row := range map[string]string{
		"no JSON":         `"Doc0":"{"`,
		"no source":       `"Doc0":"\"{}\""`,
		"empty":           `"X":"y"`,
		"of another name": `"Doc0":"\"{\\\"name\\\":\\\"jira\\\",\\\"kind\\\":\\\"standard\\\",\\\"secrets\\\":[\\\"PORTCULLIS_SECRET_A\\\"],\\\"mapping\\\":{\\\"ticket\\\":\\\"payload.n\\\"},\\\"sample\\\":{}}\""`,
	} {
		_, err := w.service.NewClient("sources").UpsertEntity(ctx, []byte(`{"PartitionKey":"sources","RowKey":"snow",`+row+`}`), nil)
		check(t, err)
		_, err = w.Source(ctx, "snow")
		if wantCode(t, err, access.Internal, "source_unreadable"); t.Failed() {
			t.Fatal(name)
		}
		if _, err := w.ListSources(ctx); access.ReasonOf(err) != "source_unreadable" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
