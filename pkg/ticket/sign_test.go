package ticket_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/portcullis-access/portcullis/pkg/ticket"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// The secrets of the tests: one for the kinds that take any text, and one of
	// Standard Webhooks, which is that of its own library's tests.
	plainSecret    = "It's a Secret to Everybody"
	standardSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherPlain     = "0123456789abcdef0123456789abcdef"
	otherStandard  = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

var kinds = []ticket.Kind{ticket.Standard, ticket.GitHub, ticket.Jira, ticket.JSM, ticket.PagerDuty, ticket.ServiceNow}

// secretOf and otherSecretOf give a secret as the kind has them.
func secretOf(k ticket.Kind) string {
	if k == ticket.Standard || k == ticket.ServiceNow {
		return standardSecret
	}
	return plainSecret
}

func otherSecretOf(k ticket.Kind) string {
	if k == ticket.Standard || k == ticket.ServiceNow {
		return otherStandard
	}
	return otherPlain
}

func hexMAC(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// signed gives the headers that a sender of the kind would send.
func signed(t testing.TB, k ticket.Kind, secret string, body []byte, id string, at time.Time) http.Header {
	t.Helper()
	h := http.Header{"Content-Type": {"application/json"}}
	switch k {
	case ticket.Standard, ticket.ServiceNow:
		hook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := hook.Sign(id, at, body)
		if err != nil {
			t.Fatal(err)
		}
		h.Set("webhook-id", id)
		h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		h.Set("webhook-signature", sig)
	case ticket.GitHub:
		h.Set("X-GitHub-Delivery", id)
		h.Set("X-Hub-Signature-256", "sha256="+hexMAC(secret, body))
	case ticket.Jira:
		h.Set("X-Atlassian-Webhook-Identifier", id)
		h.Set("X-Hub-Signature", "sha256="+hexMAC(secret, body))
	case ticket.JSM:
		h.Set("X-Portcullis-Token", secret)
	case ticket.PagerDuty:
		h.Set("X-PagerDuty-Signature", "v1="+hexMAC(secret, body))
	}
	return h
}

// signatureHeader is the header that a kind's signature or token stands in.
var signatureHeader = map[ticket.Kind]string{
	ticket.Standard: "Webhook-Signature", ticket.ServiceNow: "Webhook-Signature", ticket.GitHub: "X-Hub-Signature-256",
	ticket.Jira: "X-Hub-Signature", ticket.JSM: "X-Portcullis-Token", ticket.PagerDuty: "X-Pagerduty-Signature",
}
