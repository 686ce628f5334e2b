package identity_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/portcullis-access/portcullis/pkg/access"
	"github.com/portcullis-access/portcullis/pkg/identity"
)

// FuzzHeaders puts good tokens of two people where a fuzzer likes: {a} stands for
// one's, {b} for the other's. Who is let in is the one whose token stands alone in
// the one header that counts.
func FuzzHeaders(f *testing.F) {
	p := &publisher{}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	p.publish(f, map[string]*rsa.PrivateKey{"k": key})
	v, err := identity.NewVerifier(identity.Config{Issuer: "https://issuer/v2.0", JWKSURL: "https://issuer/keys", Audiences: []string{"api://p"}, TenantID: tenant}, &http.Client{Transport: p})
	if err != nil {
		f.Fatal(err)
	}
	of := func(who string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims(func(c jwt.MapClaims) { c["oid"] = who }))
		token.Header["kid"] = "k"
		text, err := token.SignedString(key)
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	tokens := strings.NewReplacer("{a}", of("a"), "{b}", of("b"))
	for _, s := range [][3]string{
		{"Bearer {a}", "", ""}, {"bearer  {a} ", "", "{b}"}, {"Bearer {a}", "Bearer {b}", ""}, {"", "", "{a}"}, {"Bearer {a}, Bearer {b}", "", ""}, {"Bearer {a} {b}", "", ""},
		{"Basic {a}", "", "{b}"}, {"{a}", "", ""}, {"Bearer\t{a}", "", ""}, {"Bearer {a}.x", "", ""}, {"BEARER {a}", "", ""}, {"Bearer ", "", "{a}"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, first, second, easyAuth string) {
		h := http.Header{}
		for _, one := range []string{first, second} {
			if one != "" {
				h.Add("Authorization", tokens.Replace(one))
			}
		}
		if easyAuth != "" {
			h.Set("X-MS-TOKEN-AAD-ID-TOKEN", tokens.Replace(easyAuth))
		}
		who, err := v.Verify(t.Context(), &http.Request{Header: h})
		if err != nil {
			if access.CodeOf(err) != access.Unauthenticated || who.ObjectID != "" || strings.Contains(err.Error(), tokens.Replace("{a}")) || strings.Contains(err.Error(), tokens.Replace("{b}")) {
				t.Errorf("%q, %q, %q: %+v, %v", first, second, easyAuth, who, err)
			}
			return
		}
		counts := easyAuth
		switch {
		case first != "" && second != "":
			t.Fatalf("%q and %q let %s in", first, second, who.ObjectID)
		case first+second != "":
			scheme, rest, _ := strings.Cut(first+second, " ")
			if counts = rest; !strings.EqualFold(scheme, "Bearer") {
				t.Fatalf("%q lets %s in", first+second, who.ObjectID)
			}
		}
		if want := "{" + who.ObjectID + "}"; tokens.Replace(strings.TrimSpace(counts)) != tokens.Replace(want) {
			t.Errorf("%q, %q, %q let %s in", first, second, easyAuth, who.ObjectID)
		}
	})
}
