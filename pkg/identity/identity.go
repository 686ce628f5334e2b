// Package identity finds out who calls: it checks the token that Entra signed,
// wherever it came in, and believes nothing else.
package identity

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/portcullis-access/portcullis/pkg/access"
)

// easyAuthToken is the header by which App Service Authentication hands on the
// ID token. The principal headers beside it prove nothing: where the platform
// does not guard them, anybody can set them; a token is checked here.
const easyAuthToken = "X-MS-TOKEN-AAD-ID-TOKEN"

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// Config says whose tokens are believed.
type Config struct {
	// Issuer is the exact issuer, JWKSURL where its keys are published.
	Issuer, JWKSURL string
	// Audiences are those that a token may be issued for; at least one.
	Audiences []string
	// TenantID is the only tenant whose users are believed.
	TenantID string
}

// Verifier checks tokens.
type Verifier struct {
	cfg      Config
	verifier *oidc.IDTokenVerifier
}

// NewVerifier makes a Verifier; keys are fetched when the first token comes,
// and again when an unknown key signs one, at most once a minute. client
// fetches them.
func NewVerifier(cfg Config, client *http.Client) (*Verifier, error) {
	u, err := url.Parse(cfg.JWKSURL)
	if err != nil || u.Scheme != "https" || cfg.Issuer == "" || len(cfg.Audiences) == 0 || cfg.TenantID == "" || client == nil {
		return nil, errors.New("identity: an issuer, an https URL of its keys, an audience, a tenant and a client are required")
	}
	fetch := *client
	fetch.Transport = &recentKeys{next: client.Transport}
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), &fetch), cfg.JWKSURL)
	return &Verifier{cfg, oidc.NewVerifier(cfg.Issuer, keys, &oidc.Config{
		// The audience is checked below, as there may be more than one. Naming the
		// algorithm keeps a token from choosing its own.
		SkipClientIDCheck: true, SupportedSigningAlgs: []string{oidc.RS256},
	})}, nil
}

// Verify gives who calls. Errors: unauthenticated, with reason token_missing,
// token_invalid, token_expired or token_incomplete; unavailable while the keys
// cannot be had.
func (v *Verifier) Verify(ctx context.Context, r *http.Request) (access.Caller, error) {
	raw, err := token(r)
	if err != nil {
		return access.Caller{}, err
	}
	t, err := v.verifier.Verify(ctx, raw)
	if err != nil {
		if strings.Contains(err.Error(), "fetching keys") {
			return access.Caller{}, access.Wrap(err, access.Unavailable, "keys_unavailable", "the issuer's keys cannot be had now")
		}
		if _, expired := errors.AsType[*oidc.TokenExpiredError](err); expired {
			return access.Caller{}, access.Wrap(err, access.Unauthenticated, "token_expired", "the token has expired: sign in again")
		}
		return access.Caller{}, invalid(err)
	}
	if !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(v.cfg.Audiences, a) }) {
		return access.Caller{}, invalid(errors.New("audience"))
	}
	var claims struct {
		TenantID string        `json:"tid"`
		ObjectID string        `json:"oid"`
		Name     string        `json:"preferred_username"`
		UPN      string        `json:"upn"`
		Roles    []access.Role `json:"roles"`
	}
	if err := t.Claims(&claims); err != nil {
		return access.Caller{}, invalid(err)
	}
	if claims.TenantID != v.cfg.TenantID {
		return access.Caller{}, invalid(errors.New("tenant"))
	}
	if claims.ObjectID == "" {
		return access.Caller{}, access.Errorf(access.Unauthenticated, "token_incomplete", "the token names no object id (oid)")
	}
	c := access.Caller{Name: claims.Name, ObjectID: claims.ObjectID, TenantID: claims.TenantID, Roles: claims.Roles}
	if c.Name == "" {
		c.Name = claims.UPN
	}
	if c.Name == "" {
		c.Name = claims.ObjectID
	}
	return c, nil
}

func invalid(cause error) error {
	return access.Wrap(cause, access.Unauthenticated, "token_invalid", "the token is not valid here: wrong issuer, signature, audience or tenant, or not yet valid")
}

// token finds the one token of the request.
func token(r *http.Request) (string, error) {
	raw := r.Header.Get(easyAuthToken)
	if all := r.Header.Values("Authorization"); len(all) > 0 {
		scheme, rest, _ := strings.Cut(all[0], " ")
		if len(all) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return "", access.Errorf(access.Unauthenticated, "token_missing", "send one Authorization header, with a bearer token")
		}
		raw = rest
	}
	switch {
	case raw == "":
		return "", access.Errorf(access.Unauthenticated, "token_missing", "sign in: no token came with the request")
	case len(raw) > maxToken:
		return "", invalid(errors.New("too long"))
	}
	return strings.TrimSpace(raw), nil
}
