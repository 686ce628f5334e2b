// Package identity plays the two identity services that Portcullis meets in
// Azure, for a machine without them:
//
//   - the App Service managed-identity endpoint, so that an unmodified
//     azidentity.ManagedIdentityCredential gets its tokens;
//   - an OpenID Connect issuer shaped like Microsoft Entra ID's v2.0 endpoint,
//     so that tokens of people are verified against published keys, as there.
//
// It also mints tokens for people on request and verifies what it issued, which
// is what the stand-ins for Service Bus, Tables and Resource Manager ask.
package identity

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/portcullis-access/portcullis/pkg/localazure/fault"
)

const (
	// identityTokenLifetime is how long Azure's managed-identity tokens last.
	identityTokenLifetime = 24 * time.Hour
	// userTokenLifetime is the default lifetime of a token for a person; Entra
	// picks 60 to 90 minutes.
	userTokenLifetime = time.Hour
	// maxTokenBytes bounds what Verify parses. A token of Entra's is a few KB.
	maxTokenBytes = 16 << 10
	// clockSkew is what Verify forgives; issuer and verifier share a clock here.
	clockSkew = 30 * time.Second
)

// Principal is a managed identity. ObjectID and ClientID are GUIDs.
type Principal struct {
	ObjectID string
	ClientID string
	Name     string
}

// Config is what New needs.
type Config struct {
	// Issuer is the absolute https URL that tokens name as their issuer,
	// "https://host:port/{tenant}/v2.0".
	Issuer string
	// TenantID is the tenant in Issuer and in every token ("tid").
	TenantID string
	// IdentityHeader is the secret that a caller of the managed-identity
	// endpoint and of /mint must show (IDENTITY_HEADER in App Service).
	IdentityHeader string
	// ManagedIdentities are those of the function app. The first also plays the
	// system-assigned one: it answers a request that selects none.
	ManagedIdentities []Principal
	// Key signs tokens: RSA, at least 2048 bits. Nil generates one for this run;
	// LoadOrCreateKey keeps one over runs.
	Key *rsa.PrivateKey
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets refusals; nil discards. Neither tokens nor secrets are logged.
	Logger *slog.Logger
}

// UserToken says what a token for a person holds.
type UserToken struct {
	// Name is the user principal name, such as alice@contoso.com. Required.
	Name string
	// ObjectID is the person's GUID; empty derives one from Name, the same in
	// every run.
	ObjectID string
	// Audience is the "aud" claim, taken literally. Required.
	Audience string
	// Roles are the application roles granted ("roles"); none leaves the claim
	// out, as Entra does.
	Roles []string
	// Lifetime is from now to expiry; zero means an hour, a negative one gives
	// an expired token.
	Lifetime time.Duration
}

// Server issues and verifies tokens. It is an http.Handler and safe for
// concurrent use.
type Server struct {
	issuer     string
	tenantID   string
	headerHash [sha256.Size]byte
	identities []Principal
	key        *rsa.PrivateKey
	keyID      string
	now        func() time.Time
	log        *slog.Logger
	mux        *http.ServeMux
	faults     *fault.Injector
}

// New checks the configuration and returns a server that is ready to serve.
func New(cfg Config) (*Server, error) {
	issuer, err := url.Parse(cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("identity: issuer: %w", err)
	}
	switch {
	case cfg.TenantID == "" || url.PathEscape(cfg.TenantID) != cfg.TenantID:
		return nil, fmt.Errorf("identity: tenant id %q is no GUID or path segment", cfg.TenantID)
	case issuer.Scheme != "https" || issuer.Host == "" || issuer.Path != "/"+cfg.TenantID+"/v2.0":
		return nil, fmt.Errorf("identity: issuer %q is not https://host/%s/v2.0", cfg.Issuer, cfg.TenantID)
	case cfg.IdentityHeader == "":
		return nil, errors.New("identity: the identity header is empty: anybody could mint tokens")
	case len(cfg.ManagedIdentities) == 0:
		return nil, errors.New("identity: no managed identity given")
	}
	for i, p := range cfg.ManagedIdentities {
		if uuid.Validate(p.ObjectID) != nil || uuid.Validate(p.ClientID) != nil {
			return nil, fmt.Errorf("identity: managed identity %d (%q) needs GUIDs as object id and client id", i, p.Name)
		}
	}
	key := cfg.Key
	if key == nil {
		if key, err = generateKey(); err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
	}
	if bits := key.N.BitLen(); bits < minKeyBits {
		return nil, fmt.Errorf("identity: the signing key has %d bits, fewer than %d", bits, minKeyBits)
	}
	s := &Server{
		issuer:     cfg.Issuer,
		tenantID:   cfg.TenantID,
		headerHash: sha256.Sum256([]byte(cfg.IdentityHeader)),
		identities: cfg.ManagedIdentities,
		key:        key,
		keyID:      keyID(&key.PublicKey),
		now:        cfg.Now,
		log:        cfg.Logger,
		mux:        http.NewServeMux(),
		faults:     newFaults(),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	tenant := "/" + cfg.TenantID
	s.mux.HandleFunc("GET /msi/token", s.faulty(tokenOperation, s.managedIdentityToken))
	s.mux.HandleFunc("POST /mint", s.faulty(named("mint"), s.mint))
	s.mux.HandleFunc("GET "+tenant+"/v2.0/.well-known/openid-configuration", s.faulty(named("discovery"), s.discovery))
	s.mux.HandleFunc("GET "+tenant+"/discovery/v2.0/keys", s.faulty(named("keys"), s.keys))
	s.mux.Handle(fault.Path, s.faults)
	return s, nil
}

// ServeHTTP answers
//
//	GET  /msi/token                                       App Service managed identity, 2019-08-01
//	GET  /{tenant}/v2.0/.well-known/openid-configuration  OpenID Connect discovery 1.0
//	GET  /{tenant}/discovery/v2.0/keys                    the JSON Web Key Set
//	POST /mint                                            MintRequest → MintResponse, with the secret header
//
// and the fault plan at fault.Path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mux.ServeHTTP(w, r)
}

// Issuer is the URL that verifiers of user tokens should expect.
func (s *Server) Issuer() string { return s.issuer }

// Mint issues a signed token for a person with the claims of an Entra v2.0
// token: iss, aud, tid, oid, sub, preferred_username, name, roles, iat, nbf,
// exp and ver "2.0".
func (s *Server) Mint(u UserToken) (string, error) {
	token, _, err := s.mintUser(u)
	return token, err
}

func (s *Server) mintUser(u UserToken) (string, time.Time, error) {
	if strings.TrimSpace(u.Name) == "" {
		return "", time.Time{}, errors.New("identity: a user token needs a name")
	}
	if u.Audience == "" {
		return "", time.Time{}, errors.New("identity: a user token needs an audience")
	}
	if u.ObjectID == "" {
		u.ObjectID = s.deriveID("user", strings.ToLower(u.Name))
	} else if uuid.Validate(u.ObjectID) != nil {
		return "", time.Time{}, errors.New("identity: the object id is no GUID")
	}
	if u.Lifetime == 0 {
		u.Lifetime = userTokenLifetime
	}
	claims := jwt.MapClaims{
		"name":               u.Name,
		"oid":                u.ObjectID,
		"preferred_username": u.Name,
		// Entra's sub is pairwise: the same person has another one at each audience.
		"sub": s.deriveID("sub", u.ObjectID, u.Audience),
		"ver": "2.0",
	}
	if len(u.Roles) > 0 {
		claims["roles"] = u.Roles
	}
	return s.sign(claims, u.Audience, u.Lifetime)
}

// Verify checks that the token was issued here, is for the audience and is valid
// now. Audiences are compared without a trailing slash or "/.default" and
// regardless of case, because an SDK asks for a scope where the service expects
// a resource. The error says why a token is refused and holds nothing of it.
func (s *Server) Verify(ctx context.Context, token, audience string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if len(token) > maxTokenBytes {
		return errors.New("identity: the token is too large")
	}
	claims := &jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(token, claims, s.verificationKey,
		// Pinning the algorithm is what defeats alg "none" and an HMAC made with the public key.
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithIssuer(s.issuer),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(clockSkew),
		jwt.WithTimeFunc(s.now),
	)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	want := resourceOf(audience)
	for _, aud := range claims.Audience {
		if want != "" && strings.EqualFold(resourceOf(aud), want) {
			return nil
		}
	}
	return fmt.Errorf("identity: the token is not for %q", audience)
}

func (s *Server) verificationKey(t *jwt.Token) (any, error) {
	if kid, _ := t.Header["kid"].(string); kid != s.keyID {
		return nil, errors.New("the token was signed by an unknown key")
	}
	return &s.key.PublicKey, nil
}

// resourceOf reduces a scope or audience to the resource it names.
func resourceOf(audience string) string {
	return strings.TrimRight(strings.TrimSuffix(audience, "/.default"), "/")
}

func (s *Server) sign(claims jwt.MapClaims, audience string, lifetime time.Duration) (string, time.Time, error) {
	now := s.now()
	expires := now.Add(lifetime)
	claims["iss"] = s.issuer
	claims["aud"] = audience
	claims["tid"] = s.tenantID
	claims["iat"] = now.Unix()
	claims["nbf"] = now.Unix()
	claims["exp"] = expires.Unix()
	claims["uti"] = base64.RawURLEncoding.EncodeToString(uuidBytes(uuid.New()))
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"] = s.keyID
	signed, err := token.SignedString(s.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("identity: signing: %w", err)
	}
	return signed, expires, nil
}

// deriveID gives the same GUID for the same parts in every run of a tenant.
func (s *Server) deriveID(parts ...string) string {
	encoded, _ := json.Marshal(append([]string{s.tenantID}, parts...)) // strings always encode
	return uuid.NewSHA1(uuid.NameSpaceURL, encoded).String()
}

func uuidBytes(id uuid.UUID) []byte { return id[:] }

// authorized reports whether the request shows the secret. Hashing first makes
// the comparison take the same time whatever the length offered.
func (s *Server) authorized(r *http.Request) bool {
	got := sha256.Sum256([]byte(r.Header.Get("X-IDENTITY-HEADER")))
	return subtle.ConstantTimeCompare(got[:], s.headerHash[:]) == 1
}
