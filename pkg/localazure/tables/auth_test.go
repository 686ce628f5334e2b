package tables

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func sign(t *testing.T, lines ...string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(testKey)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.Join(lines, "\n")))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestAuthentication(t *testing.T) {
	h := newHarness(t)
	date := func(ago time.Duration) string { return time.Now().Add(-ago).UTC().Format(http.TimeFormat) }
	now, old, early := date(0), date(16*time.Minute), date(-16*time.Minute)
	doubled, single := "/devstoreaccount1/devstoreaccount1/Tables", "/devstoreaccount1/Tables"
	const emulator, endpoint = "/devstoreaccount1/Tables", "/Tables"
	for name, test := range map[string]struct {
		path, date, auth string
		status           int
		code             string
	}{
		"token":                  {emulator, "", "Bearer " + goodToken, 200, ""},
		"wrong token":            {emulator, "", "Bearer x", 401, "InvalidAuthenticationInfo"},
		"empty token":            {emulator, "", "Bearer ", 401, "InvalidAuthenticationInfo"},
		"nothing":                {emulator, "", "", 401, "NoAuthenticationInformation"},
		"nothing, no account":    {"/other/Tables", "", "", 401, "NoAuthenticationInformation"},
		"unknown scheme":         {emulator, "", "Basic eDp5", 403, "AuthenticationFailed"},
		"lite, emulator":         {emulator, now, "SharedKeyLite devstoreaccount1:" + sign(t, now, doubled), 200, ""},
		"lite, endpoint":         {endpoint, now, "SharedKeyLite devstoreaccount1:" + sign(t, now, single), 200, ""},
		"lite, not doubled":      {emulator, now, "SharedKeyLite devstoreaccount1:" + sign(t, now, single), 403, "AuthenticationFailed"},
		"lite, query ignored":    {endpoint + "?$top=5", now, "SharedKeyLite devstoreaccount1:" + sign(t, now, single), 200, ""},
		"full, emulator":         {emulator, now, "SharedKey devstoreaccount1:" + sign(t, "GET", "", "", now, doubled), 200, ""},
		"full, other method":     {emulator, now, "SharedKey devstoreaccount1:" + sign(t, "PUT", "", "", now, doubled), 403, "AuthenticationFailed"},
		"full, signed as lite":   {emulator, now, "SharedKey devstoreaccount1:" + sign(t, now, doubled), 403, "AuthenticationFailed"},
		"other account":          {emulator, now, "SharedKeyLite other:" + sign(t, now, doubled), 403, "AuthenticationFailed"},
		"wrong signature":        {emulator, now, "SharedKeyLite devstoreaccount1:" + sign(t, "x"), 403, "AuthenticationFailed"},
		"no signature":           {emulator, now, "SharedKeyLite devstoreaccount1", 403, "AuthenticationFailed"},
		"no base64":              {emulator, now, "SharedKeyLite devstoreaccount1:!", 403, "AuthenticationFailed"},
		"old":                    {emulator, old, "SharedKeyLite devstoreaccount1:" + sign(t, old, doubled), 403, "AuthenticationFailed"},
		"early":                  {emulator, early, "SharedKeyLite devstoreaccount1:" + sign(t, early, doubled), 403, "AuthenticationFailed"},
		"no date":                {emulator, "", "SharedKeyLite devstoreaccount1:" + sign(t, "", doubled), 403, "AuthenticationFailed"},
		"SAS without signature":  {emulator + "?sig=", "", "", 403, "AuthenticationFailed"},
		"SAS with any signature": {emulator + "?sv=2019-02-02&ss=t&srt=sco&sp=rl&se=2999-01-01&sig=" + url.QueryEscape(sign(t, "x")), "", "", 403, "AuthenticationFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.raw(t, "GET", test.path, "", "x-ms-date: "+test.date, "Authorization: "+test.auth)
			if got.status != test.status || test.code != "" && got.code(t) != test.code {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, test.status, test.code)
			}
			challenge := got.header.Get("WWW-Authenticate")
			if want := test.status == 401; want != (strings.HasPrefix(challenge, "Bearer authorization_uri=https://") && strings.HasSuffix(challenge, " resource_id=https://storage.azure.com")) {
				t.Errorf("challenge %q", challenge)
			}
			if got.header.Get("x-ms-request-id") == "" {
				t.Error("no request id")
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{Key: testKey}, {Account: "a/b", Key: testKey}, {Account: "a"}, {Account: "a", Key: "secret!"}} {
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%+v was accepted", cfg)
		} else if cfg.Key != "" && strings.Contains(err.Error(), cfg.Key) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
}

func TestNoVerifierRefusesAllTokens(t *testing.T) {
	s, err := New(Config{Account: testAccount, Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/Tables", nil)
	r.Header.Set("Authorization", "Bearer "+goodToken)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("got %d", w.Code)
	}
}

func TestAccountSAS(t *testing.T) {
	h := newHarness(t)
	people := h.table(t)
	if _, err := people.AddEntity(t.Context(), marshal(t, entity("r", nil)), nil); err != nil {
		t.Fatal(err)
	}
	hour := time.Hour
	for name, test := range map[string]struct {
		types       aztables.AccountSASResourceTypes
		permissions aztables.AccountSASPermissions
		from, to    time.Duration
		list, add   string
	}{
		"read only":      {aztables.AccountSASResourceTypes{Object: true}, aztables.AccountSASPermissions{Read: true}, -hour, hour, "", "AuthorizationPermissionMismatch"},
		"add only":       {aztables.AccountSASResourceTypes{Object: true}, aztables.AccountSASPermissions{Add: true}, -hour, hour, "AuthorizationPermissionMismatch", ""},
		"other resource": {aztables.AccountSASResourceTypes{Service: true}, aztables.AccountSASPermissions{Read: true}, -hour, hour, "AuthorizationResourceTypeMismatch", "AuthorizationResourceTypeMismatch"},
		"expired":        {aztables.AccountSASResourceTypes{Object: true}, aztables.AccountSASPermissions{Read: true, Add: true}, -2 * hour, -hour, "AuthenticationFailed", "AuthenticationFailed"},
		"not yet":        {aztables.AccountSASResourceTypes{Object: true}, aztables.AccountSASPermissions{Read: true, Add: true}, hour, 2 * hour, "AuthenticationFailed", "AuthenticationFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			sas, err := h.withKey(t, h.web.URL).GetAccountSASURL(test.types, test.permissions, time.Now().Add(test.from), time.Now().Add(test.to))
			if err != nil {
				t.Fatal(err)
			}
			service, err := aztables.NewServiceClientWithNoCredential(sas, h.options())
			if err != nil {
				t.Fatal(err)
			}
			c := service.NewClient("People")
			_, err = c.NewListEntitiesPager(nil).NextPage(t.Context())
			wantSAS(t, err, test.list)
			_, err = c.AddEntity(t.Context(), marshal(t, entity(name, nil)), nil)
			wantSAS(t, err, test.add)
			if _, err := c.Delete(t.Context(), nil); err == nil {
				t.Error("the table could be deleted")
			}
		})
	}
}

func wantSAS(t *testing.T, err error, code string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	wantCode(t, err, 403, aztables.TableErrorCode(code))
}

func TestTableSAS(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	owner := h.withKey(t, h.web.URL+"/")
	if _, err := owner.CreateTable(t.Context(), "Other", nil); err != nil {
		t.Fatal(err)
	}
	sas, err := owner.NewClient("People").GetTableSASURL(aztables.SASPermissions{Read: true, Add: true, StartPartitionKey: "p", EndPartitionKey: "p", StartRowKey: "b", EndRowKey: "d"}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	// The client signs the key range but does not put it into the URL.
	_, query, _ := strings.Cut(sas, "?")
	query = "?" + query + "&spk=p&epk=p&srk=b&erk=d"
	for _, row := range []string{"a", "b", "c", "d", "e"} {
		if _, err := owner.NewClient("People").AddEntity(t.Context(), marshal(t, entity(row, nil)), nil); err != nil {
			t.Fatal(err)
		}
	}
	all := h.raw(t, "GET", "/People"+query+"&$select=RowKey", "", "Authorization: ", "Accept: application/json;odata=nometadata")
	if all.body != `{"value":[{"RowKey":"b"},{"RowKey":"c"},{"RowKey":"d"}]}` {
		t.Errorf("the range showed %s", all.body)
	}
	for _, test := range []struct{ method, path, body, code string }{
		{"GET", "/People(PartitionKey='p',RowKey='b')" + query, "", ""},
		{"GET", "/People(PartitionKey='p',RowKey='a')" + query, "", "AuthorizationPermissionMismatch"},
		{"POST", "/People" + query, `{"PartitionKey":"p","RowKey":"bb"}`, ""},
		{"POST", "/People" + query, `{"PartitionKey":"p","RowKey":"e1"}`, "AuthorizationPermissionMismatch"},
		{"PUT", "/People(PartitionKey='p',RowKey='b')" + query, `{}`, "AuthorizationPermissionMismatch"},
		{"DELETE", "/People(PartitionKey='p',RowKey='b')" + query, ``, "AuthorizationPermissionMismatch"},
		{"GET", "/Other" + query, "", "AuthenticationFailed"},
		{"GET", "/Tables" + query, "", "AuthenticationFailed"},
		{"GET", "/People" + query + "&comp=acl", "", "AuthorizationPermissionMismatch"},
		{"GET", "/People" + strings.Replace(query, "erk=d", "erk=e", 1), "", "AuthenticationFailed"},
		{"GET", "/People" + strings.Replace(query, "&sp=ra", "&sp=raud", 1), "", "AuthenticationFailed"},
	} {
		got := h.raw(t, test.method, test.path, test.body, "Authorization: ", "If-Match: *")
		if test.code == "" && got.status >= 300 || test.code != "" && (got.status != 403 || got.code(t) != test.code) {
			t.Errorf("%s %.40s: got %d %s, want %q", test.method, test.path, got.status, got.body, test.code)
		}
	}
	batch := h.raw(t, "POST", "/$batch"+query, rawBatch("PUT /People(PartitionKey='p',RowKey='b') HTTP/1.1\r\n\r\n{}"), "Authorization: ", "Content-Type: multipart/mixed; boundary=batch_1")
	if batch.status != 202 || !strings.Contains(batch.body, `"AuthorizationPermissionMismatch"`) {
		t.Errorf("a batch went round the permissions: %d %s", batch.status, batch.body)
	}
}

func TestStoredPolicySAS(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	owner := h.withKey(t, h.web.URL).NewClient("People")
	id, permission, expiry := "p1", "r", time.Now().Add(time.Hour)
	if _, err := owner.SetAccessPolicy(t.Context(), &aztables.SetAccessPolicyOptions{TableACL: []*aztables.SignedIdentifier{{ID: &id, AccessPolicy: &aztables.AccessPolicy{Permission: &permission, Expiry: &expiry}}}}); err != nil {
		t.Fatal(err)
	}
	query := func(id, permissions string) string {
		sig := sign(t, permissions, "", "", "/table/devstoreaccount1/people", id, "", "", "2019-02-02", "", "", "", "")
		return "?" + url.Values{"sv": {"2019-02-02"}, "tn": {"People"}, "si": {id}, "sp": {permissions}, "sig": {sig}}.Encode()
	}
	if got := h.raw(t, "GET", "/People"+query("p1", ""), "", "Authorization: "); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	for _, q := range []string{query("p2", ""), query("p1", "a"), query("", "r")} {
		if got := h.raw(t, "GET", "/People"+q, "", "Authorization: "); got.status != 403 || got.code(t) != "AuthenticationFailed" {
			t.Errorf("%s: got %d %s", q, got.status, got.body)
		}
	}
	if _, err := owner.SetAccessPolicy(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := h.raw(t, "GET", "/People"+query("p1", ""), "", "Authorization: "); got.status != 403 {
		t.Errorf("a revoked policy still opens: %d", got.status)
	}
}
