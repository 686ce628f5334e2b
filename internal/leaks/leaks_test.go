package leaks_test

import (
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/internal/leaks"
)

func TestFind(t *testing.T) {
	settings := map[string]string{
		"BUS_CONNECTION_STRING": "Endpoint=sb://h/;SharedAccessKeyName=Root;SharedAccessKey=q+w/e2r3t4y5u6i7o8p9==",
		"HOOK_SECRET":           `s3cr"t-of-the-hook`, "IDENTITY_HEADER": "0123456789abcdef", "PORT": "1234567890123456",
	}
	secrets := leaks.OfSettings(settings)
	secrets["the token of alice"] = "a-token-of-alice"
	if len(secrets) != 5 {
		t.Fatalf("%v", secrets)
	}
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0xx.AAAAAAAAAAAAAAAAAAAA"
	for name, c := range map[string]struct {
		log  string
		many int
	}{
		"nothing":                 {"opened web-1 until 2026-01-01\nRoot 1234567890123456 bearer token is missing\nSharedAccessKeyName=Root", 0},
		"a key as it is":          {"x q+w/e2r3t4y5u6i7o8p9== y", 1},
		"a key in a URL":          {"GET /?k=q%2Bw%2Fe2r3t4y5u6i7o8p9%3D%3D", 1},
		"a secret in JSON":        {`{"body":"s3cr\"t-of-the-hook"}`, 1},
		"the header":              {"X-IDENTITY-HEADER: 0123456789abcdef", 1},
		"a connection string":     {settings["BUS_CONNECTION_STRING"], 3},
		"a token of somebody":     {"got " + jwt, 1},
		"a token in its header":   {"Authorization: Bearer " + jwt, 2},
		"a token that is known":   {"a-token-of-alice", 1},
		"an unknown signature":    {"https://h/t?se=1&sig=abcdefghijklmnopqrstuvwxyz%3D", 1},
		"an unknown shared key":   {"AccountKey=abcdefghijklmnopqrstuvwxyz==", 1},
		"an unknown key's header": {"authorization: SharedKey account:abcdefghijklmnopqrstuvwxyz=", 1},
	} {
		got := leaks.Find([]byte("first\n"+c.log+"\n"), secrets)
		if len(got) != c.many {
			t.Errorf("%s: %q", name, got)
		}
		for _, f := range got {
			if !strings.Contains(f, "in line 2") || strings.Contains(f, "q+w/") || strings.Contains(f, "eyJ") {
				t.Errorf("%s: %q", name, f)
			}
		}
	}
}
