package servicebus

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/servicebus/wire"
)

const (
	audience      = "https://servicebus.azure.net"
	verifyTimeout = 10 * time.Second
	maxTokenSize  = 64 << 10
)

// claim is what a token lets its bearer do with a path and what is below it.
type claim struct {
	expires              time.Time // zero if whoever verified the token saw to it
	manage, send, listen bool
}

func (c claim) valid(now time.Time) bool { return c.expires.IsZero() || now.Before(c.expires) }

// covers tells whether a claim on one path is one on another: that, or one above it.
func covers(claimed, path string) bool {
	return claimed == "" || claimed == path || strings.HasPrefix(path, claimed+"/")
}

// authorize wants a token to have been put for an address before a link attaches to it.
func (c *conn) authorize(address string, receiver, management bool) *wire.Error {
	path, now := entityPath(address), time.Now()
	missing := "No token has been put for '" + path + "'."
	for claimed, cl := range c.claims {
		if !covers(claimed, path) || !cl.valid(now) {
			continue
		}
		switch {
		case management && (cl.send || cl.listen), receiver && cl.listen, !receiver && cl.send:
			return nil
		case receiver:
			missing = "Unauthorized access. 'Listen' claim(s) are required to perform this operation."
		default:
			missing = "Unauthorized access. 'Send' claim(s) are required to perform this operation."
		}
	}
	return &wire.Error{Condition: condUnauthorized, Description: missing}
}

// verify checks a token for a path, be it a shared access signature or a JWT.
// The error tells the bearer why, without the token.
func (s *Server) verify(ctx context.Context, token, path string) (claim, error) {
	if len(token) > maxTokenSize {
		return claim{}, errors.New("InvalidToken: The token is too long.")
	}
	if strings.HasPrefix(token, "SharedAccessSignature ") {
		return s.verifySAS(token, path, time.Now())
	}
	if s.cfg.Verify == nil {
		return claim{}, errors.New("InvalidToken: This namespace takes no tokens of Microsoft Entra ID.")
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	if err := s.cfg.Verify(ctx, strings.TrimPrefix(token, "Bearer "), audience); err != nil {
		return claim{}, fmt.Errorf("InvalidToken: %w", err)
	}
	return claim{manage: true, send: true, listen: true}, nil
}

// verifySAS checks a shared access signature: "sr=<resource>&sig=<signature>&
// se=<expiry>&skn=<policy>", signed over the resource, as it is written there,
// and the expiry (Service Bus documentation, "Service Bus access control with
// Shared Access Signatures").
func (s *Server) verifySAS(token, path string, now time.Time) (claim, error) {
	fields := map[string]string{}
	for pair := range strings.SplitSeq(strings.TrimPrefix(token, "SharedAccessSignature "), "&") {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := fields[name]; twice {
			return claim{}, errors.New("MalformedToken: The token has a field twice.")
		}
		fields[name] = value
	}
	signature, errSig := url.QueryUnescape(fields["sig"])
	resource, errSr := url.QueryUnescape(fields["sr"])
	name, errSkn := url.QueryUnescape(fields["skn"])
	seconds, errSe := strconv.ParseInt(fields["se"], 10, 64)
	given, errB64 := base64.StdEncoding.DecodeString(signature)
	if errors.Join(errSig, errSr, errSkn, errSe, errB64) != nil {
		return claim{}, errors.New("MalformedToken: The token's fields cannot be read.")
	}
	policy, ok := s.policy(name)
	mac := hmac.New(sha256.New, []byte(policy.Key))
	mac.Write([]byte(fields["sr"] + "\n" + fields["se"]))
	if !hmac.Equal(mac.Sum(nil), given) || !ok {
		return claim{}, errors.New("InvalidSignature: The token has an invalid signature.")
	}
	expires := time.Unix(seconds, 0)
	if !now.Before(expires) {
		return claim{}, fmt.Errorf("ExpiredToken: The token is expired. Expiration time: '%s'.", expires.UTC().Format(time.RFC1123))
	}
	if !covers(resourcePath(resource), path) {
		return claim{}, errors.New("InvalidAudience: The token is for another resource.")
	}
	return claim{expires: expires, manage: policy.Manage,
		send: policy.Send || policy.Manage, listen: policy.Listen || policy.Manage}, nil
}

// missingRight says, as the service does, what a token lacks without which it
// may not administer; nothing where it needs no right, which is to be told that
// there is no such queue or topic (azservicebus, admin/admin_client_test.go).
func missingRight(method, lower string, exists bool) string {
	topic, subscription, below := strings.Cut(lower, "/subscriptions")
	if below && topic != "" {
		name := map[string]string{http.MethodGet: "GetSubscription", http.MethodDelete: "DeleteSubscription"}[method]
		switch {
		case name == "":
			name = "CreateOrUpdateSubscription"
		case method == http.MethodGet && subscription == "":
			name = "EnumerateSubscriptions"
		}
		return "401 SubCode=40100: Unauthorized : Unauthorized access for '" + name + "' operation."
	}
	switch {
	case method == http.MethodDelete:
		return "Authorization failed for specified action: Manage,EntityDelete."
	case method != http.MethodGet:
		return "Authorization failed for specified action: Manage,EntityWrite."
	case exists || strings.HasPrefix(lower, "$"):
		return "Manage,EntityRead claims required for this operation."
	}
	return ""
}

// policy finds a shared access policy. One without a key is none.
func (s *Server) policy(name string) (Policy, bool) {
	all := append([]Policy{{Name: s.cfg.SASKeyName, Key: s.cfg.SASKey, Manage: true}}, s.cfg.Policies...)
	for _, p := range all {
		if p.Name == name && p.Key != "" {
			return p, true
		}
	}
	return Policy{}, false
}

// resourcePath is the path that a signature is for. A resource may be written
// without a scheme, when its first segment is the host.
func resourcePath(resource string) string {
	if !strings.Contains(resource, "://") {
		resource = "sb://" + resource
	}
	return entityPath(resource)
}
