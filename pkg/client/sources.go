package client

import (
	"context"
	"encoding/json"
	"net/http"
)

const sourcesPath = "/api/sources"

// Sources lists the ticketing sources.
func (c *Client) Sources(ctx context.Context) (List[StandingSource], error) {
	return list[StandingSource](ctx, c, sourcesPath, nil, 0)
}

// Source reads the document of a source, with its ETag.
func (c *Client) Source(ctx context.Context, name string) (Answer[json.RawMessage], error) {
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: at(sourcesPath, name)})
}

// PutSource stores the document of a source. The ETag is that of the one which is
// replaced; "" says that there is none.
func (c *Client) PutSource(ctx context.Context, name string, document json.RawMessage, etag string) (Answer[StandingSource], error) {
	in := call{method: http.MethodPut, path: at(sourcesPath, name), body: document, header: map[string]string{"If-Match": etag}, lossy: true}
	if etag == "" {
		in.header = map[string]string{"If-None-Match": "*"}
	}
	return get[StandingSource](ctx, c, in)
}

// DeleteSource removes a source. The ETag is required.
func (c *Client) DeleteSource(ctx context.Context, name, etag string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: at(sourcesPath, name), header: map[string]string{"If-Match": etag}, lossy: true})
	return err
}
