package ticket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// tolerance is how far the signed timestamp of Standard Webhooks may be off.
	tolerance = 5 * time.Minute
	// maxID bounds a webhook-id, in characters.
	maxID = 256
	// minSecret is the shortest secret that is used, in bytes. Standard Webhooks has
	// bounds of its own: 24 to 64.
	minSecret                      = 16
	minStandardKey, maxStandardKey = 24, 64
	standardPrefix                 = "whsec_"
	// unresolvedPrefix begins what App Service leaves in a setting whose Key Vault
	// reference it could not resolve.
	unresolvedPrefix = "@Microsoft.KeyVault("
)

// digests are the kinds that sign the body alone: the header, and what stands
// before the hex HMAC-SHA256 in it. What else a header may bear (sha1=…) does not
// count.
var digests = map[Kind]struct {
	header, prefix string
	several        bool
}{
	GitHub:    {"X-Hub-Signature-256", "sha256=", false},
	Jira:      {"X-Hub-Signature", "sha256=", false},
	PagerDuty: {"X-PagerDuty-Signature", "v1=", true},
}

// proof is what a delivery bears to show who sent it.
type proof struct {
	id         string    // signed with it; "" for none
	at         time.Time // signed with it; zero for none
	signatures [][]byte
	sign       func(key []byte) []byte
}

// proof reads the headers that the kind has.
func (s Source) proof(d Delivery) (proof, error) {
	switch s.Kind {
	case Standard, ServiceNow:
		return standardProof(d)
	case JSM:
		return tokenProof(d.Header)
	}
	kind, ok := digests[s.Kind]
	if !ok {
		return proof{}, access.Errorf(access.Internal, "kind_unknown", "the source %s is of no known kind", s.Name)
	}
	h, err := header(d.Header, kind.header)
	if err != nil {
		return proof{}, err
	}
	p := proof{sign: func(key []byte) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write(d.Body)
		return mac.Sum(nil)
	}}
	list := []string{h}
	if kind.several {
		list = strings.SplitN(h, ",", maxSignatures+1)
	}
	for _, one := range list[:min(len(list), maxSignatures)] {
		text, ok := strings.CutPrefix(strings.TrimSpace(one), kind.prefix)
		if sig, err := hex.DecodeString(text); ok && err == nil {
			p.signatures = append(p.signatures, sig)
		}
	}
	return p, nil
}

func standardProof(d Delivery) (proof, error) {
	id, err := header(d.Header, standardwebhooks.HeaderWebhookID)
	if err != nil {
		return proof{}, err
	}
	stamp, err := header(d.Header, standardwebhooks.HeaderWebhookTimestamp)
	if err != nil {
		return proof{}, err
	}
	h, err := header(d.Header, standardwebhooks.HeaderWebhookSignature)
	if err != nil {
		return proof{}, err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	// Signed is "id.timestamp.body": with a full stop in the id, the same signature
	// would fit another id, timestamp and body too.
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }
	if err != nil || strconv.FormatInt(seconds, 10) != stamp || seconds < 0 || seconds > maxSeconds || len(id) > maxID || strings.ContainsFunc(id, odd) {
		return proof{}, forged()
	}
	p := proof{id: id, at: time.Unix(seconds, 0).UTC()}
	p.sign = func(key []byte) []byte {
		hook, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil
		}
		sig, err := hook.Sign(id, p.at, d.Body)
		if err != nil {
			return nil
		}
		return []byte(sig)
	}
	list := strings.SplitN(h, " ", maxSignatures+1)
	for _, one := range list[:min(len(list), maxSignatures)] {
		if one != "" {
			p.signatures = append(p.signatures, []byte(one))
		}
	}
	return p, nil
}

// maxSeconds is the end of the year 9999.
const maxSeconds = 253402300799

// tokenProof reads a token, in one header of two. Both sides of the comparison are
// hashed, so that it does not tell their lengths.
func tokenProof(h http.Header) (proof, error) {
	token, err := header(h, "X-Portcullis-Token")
	bearer, bearerErr := header(h, "Authorization")
	switch {
	case err != nil && access.ReasonOf(err) != "signature_missing":
		return proof{}, err
	case err != nil && bearerErr != nil:
		return proof{}, bearerErr
	case err == nil && access.ReasonOf(bearerErr) != "signature_missing":
		return proof{}, forged() // two of them, or one and a pair
	case err != nil:
		var ok bool
		if token, ok = strings.CutPrefix(bearer, "Bearer "); !ok {
			return proof{}, unsigned()
		}
	}
	sum := sha256.Sum256([]byte(token))
	return proof{signatures: [][]byte{sum[:]}, sign: func(key []byte) []byte {
		sum := sha256.Sum256(key)
		return sum[:]
	}}, nil
}

// keys gives the keys that can be used, and the fault of the first secret that
// cannot. It is the deployment's fault, never the sender's.
func (s Source) keys(secrets []string) (keys [][]byte, unusable error) {
	for i, name := range s.Secrets {
		secret := ""
		if i < len(secrets) {
			secret = secrets[i]
		}
		key, err := s.key(name, secret)
		if err == nil {
			keys = append(keys, key)
		} else if unusable == nil {
			unusable = err
		}
	}
	if len(keys) == 0 && unusable == nil {
		unusable = access.Errorf(access.Unavailable, "secret_missing", "the source %s names no secret", s.Name)
	}
	return keys, unusable
}

func (s Source) key(name, secret string) ([]byte, error) {
	fault := func(reason, why string) ([]byte, error) {
		return nil, access.Errorf(access.Unavailable, reason, "the app setting %s %s", name, why)
	}
	switch {
	case secret == "":
		return fault("secret_missing", "is not set")
	case strings.HasPrefix(secret, unresolvedPrefix):
		return fault("secret_missing", "is a Key Vault reference that was not resolved: look at its status in the portal")
	case strings.TrimSpace(secret) != secret:
		return fault("secret_invalid", "begins or ends with white space, which is no part of the secret")
	case s.Kind.signsTime():
		text, ok := strings.CutPrefix(secret, standardPrefix)
		key, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(key) < minStandardKey || len(key) > maxStandardKey {
			return fault("secret_invalid", "is not whsec_ and the base64 of 24 to 64 random bytes")
		}
		return key, nil
	case len(secret) < minSecret:
		return fault("secret_weak", "holds a secret of less than 16 bytes: choose 32 random ones")
	}
	return []byte(secret), nil
}
