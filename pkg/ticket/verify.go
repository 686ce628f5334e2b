package ticket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
)

// MaxBody bounds a delivery's body, in bytes.
const MaxBody = 1 << 20

const (
	// maxHeader bounds a header that bears a signature, in bytes, maxSignatures how
	// many it may bear.
	maxHeader     = 4096
	maxSignatures = 16
)

// Delivery is a webhook's call as it came.
type Delivery struct {
	Header http.Header
	Body   []byte // the raw bytes
	// ReceivedAt is when it came, by the caller's clock.
	ReceivedAt time.Time
}

// Verified is a delivery that the source sent, as far as its kind can tell.
type Verified struct {
	// ID is the same for every delivery of the same event: made of the source's name
	// and the delivery's id where that is signed, else of the body, so that a captured
	// body under a new delivery id is the same event.
	ID string
	// At is the signed timestamp; zero where the kind signs none.
	At       time.Time
	BodyHash string // hex SHA-256 of the raw body
	Body     []byte
}

// Verify checks that the source sent the delivery. The secrets are the values of
// the settings that s.Secrets names, in that order, "" for one that is not set.
// Nothing of the body is parsed. Every signature is compared with every secret, in
// constant time.
//
// Errors: invalid_argument body_too_large; unauthenticated signature_missing,
// signature_invalid, or, once the signature was found right, delivery_stale. Where
// the signature fits no secret and some secret cannot be used, it may be that one:
// then the sender is to try again, unavailable secret_missing, secret_weak or
// secret_invalid, which name the setting.
func (s Source) Verify(d Delivery, secrets []string) (Verified, error) {
	if len(d.Body) > MaxBody {
		return Verified{}, access.Errorf(access.InvalidArgument, "body_too_large", "the body has more than %d bytes", MaxBody)
	}
	p, err := s.proof(d)
	if err != nil {
		return Verified{}, err
	}
	keys, unusable := s.keys(secrets)
	fits := false
	for _, key := range keys {
		want := p.sign(key)
		for _, sig := range p.signatures {
			// Not "fits ||": that would stop at the first that fits.
			if hmac.Equal(sig, want) {
				fits = true
			}
		}
	}
	switch {
	case !fits && unusable != nil:
		return Verified{}, unusable
	case !fits:
		return Verified{}, forged()
	case s.Kind.signsTime() && (d.ReceivedAt.Sub(p.at) > tolerance || p.at.Sub(d.ReceivedAt) > tolerance):
		return Verified{}, access.Errorf(access.Unauthenticated, "delivery_stale", "the delivery was signed more than %d minutes from now: check the sender's clock", int(tolerance.Minutes()))
	}
	sum := sha256.Sum256(d.Body)
	v := Verified{At: p.at, BodyHash: hex.EncodeToString(sum[:]), Body: d.Body}
	if s.Kind.signsTime() {
		v.ID = eventID(s.Name, "id", p.id)
	} else {
		v.ID = eventID(s.Name, "body", v.BodyHash)
	}
	return v, nil
}

// forged is the one answer to whoever has no secret.
func forged() error {
	return access.Errorf(access.Unauthenticated, "signature_invalid", "the signature is not valid")
}

func unsigned() error {
	return access.Errorf(access.Unauthenticated, "signature_missing", "the delivery bears no signature")
}

// header gives the one value that the header has, in whatever case its name came.
func header(h http.Header, name string) (string, error) {
	name = textproto.CanonicalMIMEHeaderKey(name)
	var found []string
	for k, values := range h {
		if textproto.CanonicalMIMEHeaderKey(k) == name {
			found = append(found, values...)
		}
	}
	switch {
	case len(found) == 0 || len(found) == 1 && found[0] == "":
		return "", unsigned()
	case len(found) > 1 || len(found[0]) > maxHeader:
		return "", forged()
	}
	return found[0], nil
}

// eventID derives an event's id, of the same shape as a request's.
func eventID(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		// The length in front keeps ("a","bc") and ("ab","c") apart.
		h.Write([]byte{byte(len(part) >> 24), byte(len(part) >> 16), byte(len(part) >> 8), byte(len(part))})
		h.Write([]byte(part))
	}
	sum := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil))
	return "te-" + strings.ToLower(sum[:26])
}
