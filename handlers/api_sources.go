package handlers

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

// SourceDesk keeps ticketing sources: a broker.SourceDesk.
type SourceDesk interface {
	List(ctx context.Context, by access.Caller) ([]broker.StandingSource, error)
	Get(ctx context.Context, by access.Caller, name string) (broker.StandingSource, error)
	Put(ctx context.Context, by access.Caller, s ticket.Source, version string) (broker.StandingSource, error)
	Delete(ctx context.Context, by access.Caller, name, version string) error
}

func (a *AccessAPI) sourceRoutes() {
	const at = "/api/sources"
	a.on("GET "+at, a.listSources)
	a.on("GET "+at+"/{name}", a.getSource)
	a.on("PUT "+at+"/{name}", a.putSource)
	a.on("DELETE "+at+"/{name}", a.deleteSource)
}

// sourceDoc is a source as the API lists it: with what is known of its secrets,
// and never a secret.
type sourceDoc struct {
	Source  json.RawMessage `json:"source"`
	Webhook string          `json:"webhook"`
	Secrets []secretDoc     `json:"secrets"`
}

type secretDoc struct {
	Name  string             `json:"name"`
	State broker.SecretState `json:"state"`
}

func sourceView(s broker.StandingSource) (sourceDoc, error) {
	data, err := ticket.EncodeSource(s.Source)
	out := sourceDoc{Source: data, Webhook: WebhookPrefix + s.Source.Name, Secrets: []secretDoc{}}
	for _, secret := range s.Secrets {
		out.Secrets = append(out.Secrets, secretDoc{secret.Name, secret.State})
	}
	return out, err
}

// listSources handles GET /api/sources.
func (a *AccessAPI) listSources(r *http.Request, by access.Caller) (answer, error) {
	all, err := a.Sources.List(r.Context(), by)
	if err != nil {
		return answer{}, err
	}
	items := []sourceDoc{}
	for _, s := range all {
		doc, err := sourceView(s)
		if err != nil {
			return answer{}, err
		}
		items = append(items, doc)
	}
	return answer{http.StatusOK, map[string]any{"items": items}, nil}, nil
}

// getSource handles GET /api/sources/{name}: the document as PUT takes it.
func (a *AccessAPI) getSource(r *http.Request, by access.Caller) (answer, error) {
	s, err := a.Sources.Get(r.Context(), by, r.PathValue("name"))
	if err != nil {
		return answer{}, err
	}
	data, err := ticket.EncodeSource(s.Source)
	return answer{http.StatusOK, json.RawMessage(data), map[string]string{"ETag": etag(s.Source.Version)}}, err
}

// putSource handles PUT /api/sources/{name}. What it replaces must be named, as for
// a policy.
func (a *AccessAPI) putSource(r *http.Request, by access.Caller) (answer, error) {
	version, err := versionOf(r, "source")
	if err != nil {
		return answer{}, err
	}
	data, err := body(r)
	if err != nil {
		return answer{}, err
	}
	s, err := ticket.DecodeSource(data)
	if err != nil {
		return answer{}, err
	}
	if s.Name != r.PathValue("name") {
		return answer{}, access.Errorf(access.InvalidArgument, "name_mismatch", "the source is named %s and was sent to the address of another", s.Name)
	}
	stored, err := a.Sources.Put(r.Context(), by, s, version)
	if err != nil {
		return answer{}, err
	}
	doc, err := sourceView(stored)
	return answer{http.StatusOK, doc, map[string]string{"ETag": etag(stored.Source.Version)}}, err
}

// deleteSource handles DELETE /api/sources/{name}.
func (a *AccessAPI) deleteSource(r *http.Request, by access.Caller) (answer, error) {
	version, err := versionOf(r, "source")
	if err != nil {
		return answer{}, err
	}
	if err := a.Sources.Delete(r.Context(), by, r.PathValue("name"), version); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, struct{}{}, nil}, nil
}
