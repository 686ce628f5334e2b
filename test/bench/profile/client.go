package profile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
)

// Client tells the handler that Serve is linked into.
type Client struct{ http *http.Client }

// NewClient makes the client for the folder that the handler's Env names.
func NewClient(dir string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, socket))
		},
	}}}
}

// Begin begins a phase: its profiles are <phase>.cpu and so on in the folder.
func (c *Client) Begin(ctx context.Context, phase string) error {
	return c.post(ctx, "begin/"+phase, nil)
}

// End ends the phase, and writes its profiles.
func (c *Client) End(ctx context.Context, phase string) (u Used, err error) {
	return u, c.post(ctx, "end/"+phase, &u)
}

func (c *Client) post(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://handler/"+path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("is the handler built by `make profile`? %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profiling: %s: %s", res.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}
