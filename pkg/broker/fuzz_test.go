package broker_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
)

// FuzzContinuation goes on with a list where anybody says: a token that is none
// of ours is refused, and one that is shows a part of the caller's own list, in
// its order, and nothing of anybody else's.
func FuzzContinuation(f *testing.F) {
	for _, s := range []string{"", "x", "AAAA", "====", "MDAwMDAwMDAwMDAwMDAwMDAwMC1hci1hYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQ", "OTIyMzM3MjAzNjg1NDc3NTgwNy1hci1hYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQ"} {
		f.Add(s, true)
	}
	for _, s := range []string{"9223372036854775807-ar-aaaaaaaaaaaaaaaaaaaaaaaaaa", "0000000000000000000-ar-zzzzzzzzzzzzzzzzzzzzzzzzzz", "../x", "7439000000000000000-ar-aaaaaaaaaaaaaaaaaaaaaaaaaa' or '1' eq '1"} {
		f.Add(s, false)
	}
	w := newWorld(f)
	for i := range 6 {
		w.request(anna, wants(fmt.Sprint("a", i), alice, time.Hour))
		w.request(ben, wants(fmt.Sprint("b", i), bob, time.Hour))
		w.now = w.now.Add(time.Minute)
	}
	all := w.ids(anna, broker.Filter{})
	if len(all) != 6 {
		f.Fatalf("%v", all)
	}
	f.Fuzz(func(t *testing.T, text string, encoded bool) {
		if !encoded {
			text = base64.RawURLEncoding.EncodeToString([]byte(text))
		}
		page, err := w.desk.List(context.Background(), anna, broker.Filter{Token: text, PageSize: 3})
		if err != nil {
			if access.CodeOf(err) != access.InvalidArgument || access.ReasonOf(err) != "continuation_token_invalid" {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		var got []string
		for _, s := range page.Items {
			got = append(got, s.Record.Request.ClientID)
		}
		if len(got) == 0 {
			return
		}
		from := slices.Index(all, got[0])
		if from < 0 || len(got) > 3 || !slices.Equal(got, all[from:from+len(got)]) {
			t.Errorf("%q gives %v of %v", text, got, all)
		}
	})
}
