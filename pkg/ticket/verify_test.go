package ticket_test

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/ticket"
)

var received = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

func source(k ticket.Kind, settings int) ticket.Source {
	s := ticket.Source{Name: "desk", Kind: k}
	for i := range settings {
		s.Secrets = append(s.Secrets, "PORTCULLIS_SECRET_DESK_"+strconv.Itoa(i+1))
	}
	return s
}

func verify(t testing.TB, k ticket.Kind, h http.Header, body []byte, secrets ...string) (ticket.Verified, error) {
	t.Helper()
	return source(k, len(secrets)).Verify(ticket.Delivery{Header: h, Body: body, ReceivedAt: received}, secrets)
}

// refused checks an error's code and reason, and that it repeats no secret and no
// header.
func refused(t *testing.T, what string, err error, code access.Code, reason string) {
	t.Helper()
	if access.CodeOf(err) != code || access.ReasonOf(err) != reason {
		t.Errorf("%s: %v, want %s %s", what, err, code, reason)
		return
	}
	for _, secret := range []string{plainSecret, standardSecret, otherPlain, otherStandard, "MfKQ9r8", "sha256=", "v1"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error repeats %q: %v", what, secret, err)
		}
	}
}

func TestPublishedVectors(t *testing.T) {
	h := http.Header{"X-Hub-Signature-256": {"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}}
	if _, err := verify(t, ticket.GitHub, h, []byte("Hello, World!"), plainSecret); err != nil {
		t.Errorf("GitHub's: %v", err)
	}
	// As in standard-webhooks/libraries; its secret there without the prefix too.
	body, sent := []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)
	h = http.Header{"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"}, "Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}}
	v, err := source(ticket.Standard, 1).Verify(ticket.Delivery{Header: h, Body: body, ReceivedAt: sent.Add(time.Minute)}, []string{standardSecret})
	if err != nil || !v.At.Equal(sent) {
		t.Errorf("that of Standard Webhooks: %+v, %v", v, err)
	}
}

func TestASignedDeliveryIsVerifiedAndAForgedOneIsNot(t *testing.T) {
	body := []byte(`{"key":"T-1"}`)
	for _, k := range kinds {
		secret := secretOf(k)
		good := func() http.Header { return signed(t, k, secret, body, "d-1", received) }
		v, err := verify(t, k, good(), body, secret)
		if err != nil || len(v.ID) != 29 || !strings.HasPrefix(v.ID, "te-") || len(v.BodyHash) != 64 || !bytes.Equal(v.Body, body) {
			t.Errorf("%s: %+v, %v", k, v, err)
		}
		lower := http.Header{}
		for name, values := range good() {
			lower[strings.ToLower(name)] = values
		}
		if _, err := verify(t, k, lower, body, secret); err != nil {
			t.Errorf("%s, headers in lower case: %v", k, err)
		}
		if k != ticket.JSM { // its token says nothing of the body
			for what, other := range map[string][]byte{"truncated": body[:len(body)-1], "longer": append(bytes.Clone(body), ' '), "empty": {}, "another": []byte(`{"key":"T-2"}`)} {
				_, err := verify(t, k, good(), other, secret)
				refused(t, string(k)+", "+what+" body", err, access.Unauthenticated, "signature_invalid")
			}
		}
		_, err = verify(t, k, good(), body, otherSecretOf(k))
		refused(t, string(k)+", another secret", err, access.Unauthenticated, "signature_invalid")
		_, err = verify(t, k, http.Header{}, body, secret)
		refused(t, string(k)+", no header", err, access.Unauthenticated, "signature_missing")
		_, err = verify(t, k, good(), bytes.Repeat([]byte(" "), ticket.MaxBody+1), secret)
		refused(t, string(k)+", oversized", err, access.InvalidArgument, "body_too_large")

		name := signatureHeader[k]
		for what, values := range map[string][]string{
			"empty": {""}, "garbage": {"x"}, "twice": {good().Get(name), good().Get(name)}, "twice, one bad": {good().Get(name), "x"},
			"long": {good().Get(name) + strings.Repeat(" ", 5000)}, "cut": {good().Get(name)[:len(good().Get(name))-2]},
		} {
			h := good()
			h[name] = values
			want := "signature_invalid"
			if what == "empty" {
				want = "signature_missing"
			}
			_, err := verify(t, k, h, body, secret)
			refused(t, string(k)+", header "+what, err, access.Unauthenticated, want)
		}
		h := good()
		h[strings.ToLower(name)] = []string{"x"}
		_, err = verify(t, k, h, body, secret)
		refused(t, string(k)+", the header in two cases", err, access.Unauthenticated, "signature_invalid")
	}
}

func TestOtherAlgorithmsAreNoSignature(t *testing.T) {
	body := []byte(`{}`)
	mac := hexMAC(plainSecret, body)
	for k, values := range map[ticket.Kind][]string{
		ticket.GitHub:    {"sha1=" + mac, mac, "SHA256=" + mac, "sha256=" + mac + ",sha256=" + mac},
		ticket.Jira:      {"sha1=" + mac, "sha512=" + mac, "sha256:" + mac},
		ticket.PagerDuty: {"v0=" + mac, "v2=" + mac, mac, "v1=" + mac[:32]},
	} {
		for _, value := range values {
			_, err := verify(t, k, http.Header{signatureHeader[k]: {value}}, body, plainSecret)
			refused(t, string(k)+": "+value[:6], err, access.Unauthenticated, "signature_invalid")
		}
	}
	// GitHub's old header is not looked at.
	_, err := verify(t, ticket.GitHub, http.Header{"X-Hub-Signature": {"sha256=" + mac}}, body, plainSecret)
	refused(t, "GitHub's old header", err, access.Unauthenticated, "signature_missing")
}

func TestASecretIsRotated(t *testing.T) {
	body := []byte(`{}`)
	for _, k := range kinds {
		old, fresh := secretOf(k), otherSecretOf(k)
		for _, signer := range []string{old, fresh} {
			for _, secrets := range [][]string{{old, fresh}, {fresh, old}} {
				if _, err := verify(t, k, signed(t, k, signer, body, "d-1", received), body, secrets...); err != nil {
					t.Errorf("%s: %v", k, err)
				}
			}
		}
	}
	// The sender signs with both, and one of its signatures is good.
	std := func(secret string) string {
		return signed(t, ticket.Standard, secret, body, "d-1", received).Get("webhook-signature")
	}
	for _, list := range []string{std(otherStandard) + " " + std(standardSecret), std(standardSecret) + " " + std(otherStandard), "v1a,x v2,y " + std(standardSecret)} {
		h := signed(t, ticket.Standard, standardSecret, body, "d-1", received)
		h.Set("webhook-signature", list)
		if _, err := verify(t, ticket.Standard, h, body, standardSecret); err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
	good, bad := "v1="+hexMAC(plainSecret, body), "v1="+hexMAC(otherPlain, body)
	for _, list := range []string{good + "," + bad, bad + "," + good, bad + ", " + good, "v2=ff," + good} {
		if _, err := verify(t, ticket.PagerDuty, http.Header{"X-Pagerduty-Signature": {list}}, body, plainSecret); err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
	_, err := verify(t, ticket.PagerDuty, http.Header{"X-Pagerduty-Signature": {strings.Repeat("v1=ff,", 20) + good}}, body, plainSecret)
	refused(t, "more signatures than are looked at", err, access.Unauthenticated, "signature_invalid")
}

func TestTheSignedTimestampIsHeldAgainstTheClock(t *testing.T) {
	body := []byte(`{}`)
	for _, k := range []ticket.Kind{ticket.Standard, ticket.ServiceNow} {
		for off, ok := range map[time.Duration]bool{0: true, -5 * time.Minute: true, 5 * time.Minute: true, -5*time.Minute - time.Second: false, 5*time.Minute + time.Second: false, -24 * time.Hour: false} {
			_, err := verify(t, k, signed(t, k, standardSecret, body, "d-1", received.Add(off)), body, standardSecret)
			if ok {
				if err != nil {
					t.Errorf("%s, %s off: %v", k, off, err)
				}
				continue
			}
			refused(t, string(k)+", "+off.String()+" off", err, access.Unauthenticated, "delivery_stale")
			// Who has no secret is not told that it is stale.
			_, err = verify(t, k, signed(t, k, otherStandard, body, "d-1", received.Add(off)), body, standardSecret)
			refused(t, "forged and stale", err, access.Unauthenticated, "signature_invalid")
		}
	}
}

func TestWhatIsSignedCannotBeReadInTwoWays(t *testing.T) {
	stamp := strconv.FormatInt(received.Unix(), 10)
	inner := "." + stamp + "." + `{"key":"T-2"}`
	body := []byte("x" + inner)
	h := signed(t, ticket.Standard, standardSecret, body, "d-1", received)
	if _, err := verify(t, ticket.Standard, h, body, standardSecret); err != nil {
		t.Fatal(err)
	}
	// The same signed text, cut elsewhere: another id and another body.
	h.Set("webhook-id", "d-1."+stamp+".x")
	_, err := verify(t, ticket.Standard, h, []byte(`{"key":"T-2"}`), standardSecret)
	refused(t, "a full stop in the id", err, access.Unauthenticated, "signature_invalid")

	for _, id := range []string{"a b", "a\tb", "é", strings.Repeat("x", 257)} {
		_, err := verify(t, ticket.Standard, signed(t, ticket.Standard, standardSecret, body, id, received), body, standardSecret)
		refused(t, id, err, access.Unauthenticated, "signature_invalid")
	}
	for _, text := range []string{"+" + stamp, "0" + stamp, stamp + ".0", " " + stamp, "-1", "99999999999999", "x"} {
		h := signed(t, ticket.Standard, standardSecret, body, "d-1", received)
		h.Set("webhook-timestamp", text)
		_, err := verify(t, ticket.Standard, h, body, standardSecret)
		refused(t, text, err, access.Unauthenticated, "signature_invalid")
	}
	for _, name := range []string{"webhook-id", "webhook-timestamp"} {
		h := signed(t, ticket.Standard, standardSecret, body, "d-1", received)
		h.Del(name)
		_, err := verify(t, ticket.Standard, h, body, standardSecret)
		refused(t, "no "+name, err, access.Unauthenticated, "signature_missing")
		h = signed(t, ticket.Standard, standardSecret, body, "d-1", received)
		h.Add(name, h.Get(name))
		_, err = verify(t, ticket.Standard, h, body, standardSecret)
		refused(t, name+" twice", err, access.Unauthenticated, "signature_invalid")
	}
}

func TestARepeatIsTheSameEvent(t *testing.T) {
	body, other := []byte(`{"n":1}`), []byte(`{"n":2}`)
	id := func(k ticket.Kind, body []byte, delivery string, sent time.Time) string {
		v, err := verify(t, k, signed(t, k, secretOf(k), body, delivery, sent), body, secretOf(k))
		if err != nil {
			t.Fatal(err)
		}
		return v.ID
	}
	for _, k := range kinds {
		first := id(k, body, "d-1", received)
		if again := id(k, body, "d-1", received.Add(time.Minute)); again != first {
			t.Errorf("%s: a retry is %s, and was %s", k, again, first)
		}
		// A captured body under a new delivery id: where the id is not signed, anybody
		// can choose it. Where it is, only the sender can, and means another event.
		isSigned := k == ticket.Standard || k == ticket.ServiceNow
		if again := id(k, body, "d-2", received); (again == first) == isSigned {
			t.Errorf("%s: the body under a new delivery id is %s, and was %s", k, again, first)
		}
		if another := id(k, other, "d-1", received); (another == first) != isSigned {
			t.Errorf("%s: another body is %s, and the first %s", k, another, first)
		}
		s := source(k, 1)
		s.Name = "desk2"
		v, err := s.Verify(ticket.Delivery{Header: signed(t, k, secretOf(k), body, "d-1", received), Body: body, ReceivedAt: received}, []string{secretOf(k)})
		if err != nil || v.ID == first {
			t.Errorf("%s: another source's event is %s, %v", k, v.ID, err)
		}
	}
}

func TestATokenComesInOneHeader(t *testing.T) {
	bearer := func(v string) http.Header { return http.Header{"Authorization": {v}} }
	if _, err := verify(t, ticket.JSM, bearer("Bearer "+plainSecret), nil, plainSecret); err != nil {
		t.Errorf("bearer: %v", err)
	}
	both := bearer("Bearer " + plainSecret)
	both.Set("X-Portcullis-Token", plainSecret)
	for what, c := range map[string]struct {
		h      http.Header
		reason string
	}{
		"another":       {bearer("Bearer " + otherPlain), "signature_invalid"},
		"shorter":       {bearer("Bearer " + plainSecret[:5]), "signature_invalid"},
		"basic":         {bearer("Basic " + plainSecret), "signature_missing"},
		"both":          {both, "signature_invalid"},
		"bearer twice":  {http.Header{"Authorization": {"Bearer " + plainSecret, "Bearer " + plainSecret}}, "signature_invalid"},
		"bearer, empty": {bearer("Bearer "), "signature_invalid"},
	} {
		_, err := verify(t, ticket.JSM, c.h, nil, plainSecret)
		refused(t, what, err, access.Unauthenticated, c.reason)
	}
}

func TestASecretThatCannotBeUsedIsNeverAKey(t *testing.T) {
	body := []byte(`{}`)
	const reference = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/desk)"
	bad := map[ticket.Kind]map[string]string{
		ticket.GitHub:   {"": "secret_missing", reference: "secret_missing", "fifteen bytes..": "secret_weak", plainSecret + "\n": "secret_invalid"},
		ticket.JSM:      {"": "secret_missing", "short": "secret_weak"},
		ticket.Standard: {"": "secret_missing", reference: "secret_missing", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": "secret_invalid", "whsec_AAAA": "secret_invalid", "whsec_!": "secret_invalid", "whsec_": "secret_invalid", "whsec_" + strings.Repeat("AAAA", 22): "secret_invalid"},
	}
	for k, secrets := range bad {
		for secret, reason := range secrets {
			h := signed(t, k, secretOf(k), body, "d-1", received)
			if k == ticket.GitHub || k == ticket.JSM {
				h = signed(t, k, secret, body, "d-1", received) // not even by who knows the text
			}
			if k == ticket.JSM && secret == "" {
				h.Set("X-Portcullis-Token", "x")
			}
			_, err := verify(t, k, h, body, secret)
			refused(t, string(k)+" with "+secret, err, access.Unavailable, reason)
			if err != nil && !strings.Contains(err.Error(), "PORTCULLIS_SECRET_DESK_1") {
				t.Errorf("the error names no setting: %v", err)
			}
			// Beside one that can be used it is passed over…
			if _, err := verify(t, k, signed(t, k, secretOf(k), body, "d-1", received), body, secret, secretOf(k)); err != nil {
				t.Errorf("%s, beside a good one: %v", k, err)
			}
			// … but a signature that fits no other may be by it: that is to be tried again.
			_, err = verify(t, k, signed(t, k, otherSecretOf(k), body, "d-1", received), body, secret, secretOf(k))
			refused(t, string(k)+", unknown beside it", err, access.Unavailable, reason)
		}
	}
	_, err := source(ticket.GitHub, 2).Verify(ticket.Delivery{Header: signed(t, ticket.GitHub, otherPlain, body, "d", received), Body: body}, []string{plainSecret})
	refused(t, "fewer secrets than settings", err, access.Unavailable, "secret_missing")
	_, err = source("fax", 1).Verify(ticket.Delivery{Header: http.Header{}, Body: body}, []string{plainSecret})
	refused(t, "no known kind", err, access.Internal, "kind_unknown")
}
