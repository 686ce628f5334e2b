package blobs_test

import (
	"encoding/base64"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/azure/blobs"
	local "github.com/portcullis-access/portcullis/pkg/localazure/blobs"
	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newContainer(t *testing.T, name string) (*blobs.Container, *local.Server) {
	t.Helper()
	key := base64.StdEncoding.EncodeToString([]byte("a key of the test"))
	h, err := local.New(local.Config{Account: "acc", Key: key, Containers: []local.Container{{Name: "anchors", Immutable: true}}})
	check(t, err)
	h.PageSize = 3
	web := httptest.NewTLSServer(h)
	t.Cleanup(web.Close)
	cred, err := container.NewSharedKeyCredential("acc", key)
	check(t, err)
	o := &container.ClientOptions{}
	o.Transport = web.Client()
	o.Retry.MaxRetries = 1
	o.Retry.RetryDelay = time.Millisecond
	client, err := container.NewClientWithSharedKeyCredential(web.URL+"/acc/"+name, cred, o)
	check(t, err)
	c, err := blobs.New(client)
	check(t, err)
	return c, h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnAnchorIsWrittenOnce(t *testing.T) {
	c, _ := newContainer(t, "anchors")
	if _, err := c.Anchor(t.Context(), noon); access.CodeOf(err) != access.NotFound {
		t.Errorf("none yet: %v", err)
	}
	check(t, c.AddAnchor(t.Context(), noon, []byte(`{"a":1}`)))
	if err := c.AddAnchor(t.Context(), noon, []byte(`{"a":2}`)); access.CodeOf(err) != access.AlreadyExists {
		t.Errorf("again: %v", err)
	}
	if data, err := c.Anchor(t.Context(), noon.In(time.FixedZone("", 3600))); err != nil || string(data) != `{"a":1}` {
		t.Errorf("%s, %v", data, err)
	}
}

// The client tries again by itself, and finds its own first attempt.
func TestAnAnswerThatIsLostIsAnAnchorThatExists(t *testing.T) {
	c, h := newContainer(t, "anchors")
	check(t, h.Faults().Set(fault.Plan{Rules: []fault.Rule{{On: "put-blob anchors", Do: fault.LoseReply, Times: 1}}}))
	if err := c.AddAnchor(t.Context(), noon, []byte("x")); access.CodeOf(err) != access.AlreadyExists {
		t.Errorf("%v", err)
	}
	if data, err := c.Anchor(t.Context(), noon); err != nil || string(data) != "x" {
		t.Errorf("%s, %v", data, err)
	}
}

func TestHoursAreListedInOrderOverPages(t *testing.T) {
	c, _ := newContainer(t, "anchors")
	var want []time.Time
	for _, hours := range []int{-24 * 400, -24 * 30, -13, -12, -2, -1, 0, 1, 24 * 40} {
		want = append(want, noon.Add(time.Duration(hours)*time.Hour))
	}
	for _, h := range slices.Backward(want) {
		check(t, c.AddAnchor(t.Context(), h, []byte("x")))
	}
	for _, r := range []struct {
		from, to time.Time
		want     []time.Time
	}{
		{time.Time{}, noon.AddDate(1, 0, 0), want},
		{noon.AddDate(-2, 0, 0), noon, want[:6]},
		{noon.Add(-13 * time.Hour), noon.Add(2 * time.Hour), want[2:8]},
		{noon.AddDate(0, -2, 0), noon.AddDate(0, 2, 0), want[1:]},
		{noon.Add(2 * time.Hour), noon.Add(3 * time.Hour), nil},
	} {
		got, err := c.AnchoredHours(t.Context(), r.from, r.to)
		if err != nil || !slices.EqualFunc(got, r.want, time.Time.Equal) {
			t.Errorf("%v to %v: %v, %v", r.from, r.to, got, err)
		}
	}
}

func TestWhatIsNotWellIsSaid(t *testing.T) {
	c, h := newContainer(t, "anchors")
	for _, f := range []struct {
		do           fault.Kind
		code, reason string
	}{{fault.Throttle, "unavailable", "blobs_unavailable"}, {fault.Refuse, "unavailable", "azure_permission"}, {fault.Drop, "unavailable", "blobs_unavailable"}} {
		check(t, h.Faults().Set(fault.Plan{Rules: []fault.Rule{{On: "*", Do: f.do}}}))
		_, list := c.AnchoredHours(t.Context(), noon, noon.Add(time.Hour))
		_, read := c.Anchor(t.Context(), noon)
		for _, err := range []error{list, read, c.AddAnchor(t.Context(), noon, nil)} {
			if string(access.CodeOf(err)) != f.code || access.ReasonOf(err) != f.reason {
				t.Errorf("%s: %v", f.do, err)
			}
		}
	}
	gone, _ := newContainer(t, "other")
	if err := gone.AddAnchor(t.Context(), noon, []byte("x")); access.ReasonOf(err) != "container_missing" {
		t.Errorf("%v", err)
	}
	if _, err := gone.Anchor(t.Context(), noon); access.ReasonOf(err) != "container_missing" {
		t.Errorf("%v", err)
	}
}
