package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	// managedIdentityAPI is the version of the App Service protocol that
	// azidentity speaks.
	managedIdentityAPI = "2019-08-01"
	maxMintBytes       = 16 << 10
	maxMintLifetime    = 24 * time.Hour
)

// MintRequest is the body of POST /mint.
type MintRequest struct {
	Name     string   `json:"name"`
	ObjectID string   `json:"objectId,omitempty"`
	Audience string   `json:"audience"`
	Roles    []string `json:"roles,omitempty"`
	// LifetimeSeconds is 0 for the default of an hour, at most a day.
	LifetimeSeconds int64 `json:"lifetimeSeconds,omitempty"`
}

// MintResponse is the answer to POST /mint.
type MintResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	// ExpiresOn is in Unix seconds.
	ExpiresOn int64 `json:"expires_on"`
}

// managedIdentityToken answers as App Service documents it ("How to use managed
// identities for App Service and Azure Functions", REST endpoint reference).
func (s *Server) managedIdentityToken(w http.ResponseWriter, r *http.Request) {
	// The header is what keeps a forged server-side request, which rarely can set
	// headers, from fetching a token.
	if !s.authorized(r) {
		s.refuseIdentity(w, r, http.StatusUnauthorized, "The X-IDENTITY-HEADER header is missing or does not match.")
		return
	}
	q := r.URL.Query()
	if v := q.Get("api-version"); v != managedIdentityAPI {
		s.refuseIdentity(w, r, http.StatusBadRequest, "The api-version is not supported: use "+managedIdentityAPI+".")
		return
	}
	resource := q.Get("resource")
	if resource == "" {
		s.refuseIdentity(w, r, http.StatusBadRequest, "The resource query parameter is missing.")
		return
	}
	p, ok := s.selectIdentity(q.Get)
	if !ok {
		s.refuseIdentity(w, r, http.StatusBadRequest,
			"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
		return
	}
	token, expires, err := s.sign(jwt.MapClaims{
		"appid":    p.ClientID,
		"appidacr": "2",
		"azp":      p.ClientID,
		"idtyp":    "app",
		"oid":      p.ObjectID,
		"sub":      p.ObjectID,
		"ver":      "1.0",
	}, resource, identityTokenLifetime)
	if err != nil {
		s.log.ErrorContext(r.Context(), "no token issued", slog.Any("error", err))
		s.refuseIdentity(w, r, http.StatusInternalServerError, "The token could not be issued.")
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"access_token": token,
		"client_id":    p.ClientID,
		"expires_on":   strconv.FormatInt(expires.Unix(), 10), // App Service sends it as a string
		"resource":     resource,
		"token_type":   "Bearer",
	})
}

// selectIdentity finds the identity that a request names; one that names none
// gets the first.
func (s *Server) selectIdentity(param func(string) string) (Principal, bool) {
	clientID := param("client_id")
	objectID := param("object_id")
	if objectID == "" {
		objectID = param("principal_id")
	}
	if param("mi_res_id") != "" {
		return Principal{}, false // these identities have no resource id
	}
	for _, p := range s.identities {
		if (clientID == "" || strings.EqualFold(p.ClientID, clientID)) &&
			(objectID == "" || strings.EqualFold(p.ObjectID, objectID)) {
			return p, true
		}
	}
	return Principal{}, false
}

func (s *Server) refuseIdentity(w http.ResponseWriter, r *http.Request, status int, message string) {
	correlation := uuid.NewString()
	s.log.WarnContext(r.Context(), "managed identity token refused",
		slog.Int("status", status), slog.String("reason", message), slog.String("correlationId", correlation))
	writeJSON(w, status, map[string]any{
		"statusCode":    status,
		"message":       message,
		"correlationId": correlation,
	})
}

// discovery answers OpenID Connect Discovery 1.0, section 3, with the members
// that Entra's document has and that make sense here. There is no sign-in page:
// the authorization and token endpoints are named, as the specification
// requires, and answer 404.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	base := strings.TrimSuffix(s.issuer, "/v2.0")
	writeJSON(w, http.StatusOK, map[string]any{
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"claims_supported":                      []string{"sub", "iss", "aud", "exp", "iat", "nbf", "name", "preferred_username", "oid", "tid", "roles", "ver"},
		"id_token_signing_alg_values_supported": []string{jwt.SigningMethodRS256.Alg()},
		"issuer":                                s.issuer,
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"subject_types_supported":               []string{"pairwise"},
		"tenant_region_scope":                   nil,
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
	})
}

// keys answers the JSON Web Key Set (RFC 7517). Like Entra's it names no "alg".
func (s *Server) keys(w http.ResponseWriter, _ *http.Request) {
	public := s.key.PublicKey
	writeJSON(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty":    "RSA",
		"use":    "sig",
		"kid":    s.keyID,
		"n":      base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		"e":      base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
		"issuer": s.issuer,
	}}})
}

// mint issues a token for a person to a caller that shows the secret.
func (s *Server) mint(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(r) {
		s.refuseMint(w, r, http.StatusUnauthorized, "the X-IDENTITY-HEADER header is missing or does not match")
		return
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMintBytes))
	decoder.DisallowUnknownFields()
	var req MintRequest
	if err := decoder.Decode(&req); err != nil {
		s.refuseMint(w, r, http.StatusBadRequest, "the body is not a mint request: "+err.Error())
		return
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		s.refuseMint(w, r, http.StatusBadRequest, "the body holds more than one mint request")
		return
	}
	if req.LifetimeSeconds < 0 || req.LifetimeSeconds > int64(maxMintLifetime/time.Second) {
		s.refuseMint(w, r, http.StatusBadRequest, "lifetimeSeconds is outside 0 to "+strconv.Itoa(int(maxMintLifetime/time.Second)))
		return
	}
	token, expires, err := s.mintUser(UserToken{
		Name:     req.Name,
		ObjectID: req.ObjectID,
		Audience: req.Audience,
		Roles:    req.Roles,
		Lifetime: time.Duration(req.LifetimeSeconds) * time.Second,
	})
	if err != nil {
		s.refuseMint(w, r, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, MintResponse{AccessToken: token, TokenType: "Bearer", ExpiresOn: expires.Unix()})
}

func (s *Server) refuseMint(w http.ResponseWriter, r *http.Request, status int, reason string) {
	s.log.WarnContext(r.Context(), "mint refused", slog.Int("status", status), slog.String("reason", reason))
	writeJSON(w, status, map[string]string{"error": reason})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone; nobody is left to tell
}
