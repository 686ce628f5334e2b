package tables

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/store"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// Versions that change what a signature covers. They compare as text.
const (
	oldestSAS          = "2015-04-05" // signs the IP range and the protocol
	encryptionScopeSAS = "2020-12-06" // an account SAS also signs the encryption scope
)

// grant is what an authenticated request may do. Account keys and tokens may do
// everything; a shared access signature is limited.
type grant struct {
	full        bool
	permissions string
	types       string // resource types of an account SAS: s, c, o
	table       string // of a table SAS, in lower case
	from, to    keyBound
}

// keyBound is an end of a table SAS's key range; the row counts only with the
// partition.
type keyBound struct {
	partition, row *string
}

// allow checks one operation: all of need, on a resource of type typ (s, c or
// o), in table if there is one.
func (g *grant) allow(typ byte, need, table string) error {
	if g.full {
		return nil
	}
	if g.table != "" && g.table != strings.ToLower(table) {
		return authenticationFailed()
	}
	if g.table != "" && typ != 'o' || g.table == "" && strings.IndexByte(g.types, typ) < 0 {
		return tableerr.New(tableerr.AuthorizationResourceTypeMismatch, "This request is not authorized to perform this operation using this resource type.")
	}
	for _, p := range need {
		if !strings.ContainsRune(g.permissions, p) {
			return permissionMismatch()
		}
	}
	return nil
}

// covers says whether a table SAS's key range holds k.
func (g *grant) covers(k store.Key) bool {
	return g.from.compare(k) >= 0 && g.to.compare(k) <= 0
}

// compare is k's place relative to the bound; 0 if the bound is open.
func (b keyBound) compare(k store.Key) int {
	if b.partition == nil {
		return 0
	}
	if c := edm.Ordinal(k.Partition, *b.partition); c != 0 || b.row == nil {
		return c
	}
	return edm.Ordinal(k.Row, *b.row)
}

func permissionMismatch() error {
	return tableerr.New(tableerr.AuthorizationPermissionMismatch, "This request is not authorized to perform this operation using this permission.")
}

// sharedAccessSignature checks an account SAS or a table SAS ("Create an
// account SAS", "Create a service SAS").
func (s *Server) sharedAccessSignature(r *http.Request, q url.Values) (*grant, error) {
	text := s.tableSASText(q)
	if q.Has("ss") {
		text = s.accountSASText(q)
	}
	if q.Get("sv") < oldestSAS || !s.signed(text, q.Get("sig")) {
		return nil, authenticationFailed()
	}
	// Only what is signed is looked at from here on.
	start, expiry, permissions := q.Get("st"), q.Get("se"), q.Get("sp")
	if id := q.Get("si"); id != "" && !q.Has("ss") {
		p, found := s.policy(q.Get("tn"), id)
		// What the policy says, the signature must not say again.
		if !found || p.Start != "" && start != "" || p.Expiry != "" && expiry != "" || p.Permission != "" && permissions != "" {
			return nil, authenticationFailed()
		}
		start, expiry, permissions = start+p.Start, expiry+p.Expiry, permissions+p.Permission
	}
	if err := s.withinTime(start, expiry); err != nil {
		return nil, err
	}
	if err := origin(r, q); err != nil {
		return nil, err
	}
	g := &grant{permissions: permissions, types: q.Get("srt")}
	if q.Has("ss") {
		if !strings.Contains(q.Get("ss"), "t") {
			return nil, tableerr.New(tableerr.AuthorizationServiceMismatch, "This request is not authorized to perform this operation using this service.")
		}
		return g, nil
	}
	g.table = strings.ToLower(q.Get("tn"))
	g.from, g.to = bound(q, "spk", "srk"), bound(q, "epk", "erk")
	if g.table == "" {
		return nil, authenticationFailed()
	}
	return g, nil
}

func (s *Server) accountSASText(q url.Values) string {
	lines := []string{s.cfg.Account}
	for _, name := range []string{"sp", "ss", "srt", "st", "se", "sip", "spr", "sv"} {
		lines = append(lines, q.Get(name))
	}
	if q.Get("sv") >= encryptionScopeSAS {
		lines = append(lines, q.Get("ses"))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (s *Server) tableSASText(q url.Values) string {
	lines := []string{q.Get("sp"), q.Get("st"), q.Get("se"), "/table/" + s.cfg.Account + "/" + strings.ToLower(q.Get("tn"))}
	for _, name := range []string{"si", "sip", "spr", "sv", "spk", "srk", "epk", "erk"} {
		lines = append(lines, q.Get(name))
	}
	return strings.Join(lines, "\n")
}

func (s *Server) policy(table, id string) (store.AccessPolicy, bool) {
	policies, err := s.store.Policies(table)
	if err != nil {
		return store.AccessPolicy{}, false // a missing table has no policies
	}
	for _, p := range policies {
		if p.ID == id {
			return p, true
		}
	}
	return store.AccessPolicy{}, false
}

// withinTime fails closed: no expiry, or one that cannot be read, is expired.
func (s *Server) withinTime(start, expiry string) error {
	end, ok := sasTime(expiry)
	if !ok || !s.now().Before(end) {
		return authenticationFailed()
	}
	if start == "" {
		return nil
	}
	if begin, ok := sasTime(start); !ok || s.now().Before(begin) {
		return authenticationFailed()
	}
	return nil
}

func sasTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// origin checks the protocol and the source address that a SAS may demand.
func origin(r *http.Request, q url.Values) error {
	if q.Get("spr") == "https" && r.TLS == nil {
		return tableerr.New(tableerr.AuthorizationProtocolMismatch, "This request is not authorized to perform this operation using this protocol.")
	}
	if !q.Has("sip") {
		return nil
	}
	low, high, isRange := strings.Cut(q.Get("sip"), "-")
	if !isRange {
		high = low
	}
	from, err1 := netip.ParseAddr(low)
	to, err2 := netip.ParseAddr(high)
	host, _, err3 := net.SplitHostPort(r.RemoteAddr)
	addr, err4 := netip.ParseAddr(host)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || addr.Unmap().Less(from) || to.Less(addr.Unmap()) {
		return tableerr.New(tableerr.AuthorizationSourceIPMismatch, "This request is not authorized to perform this operation using this source IP.")
	}
	return nil
}

func bound(q url.Values, partition, row string) keyBound {
	var b keyBound
	if q.Has(partition) {
		p := q.Get(partition)
		b.partition = &p
	}
	if q.Has(row) && b.partition != nil {
		v := q.Get(row)
		b.row = &v
	}
	return b
}
