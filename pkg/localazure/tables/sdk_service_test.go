package tables

import (
	"reflect"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func TestServicePropertiesAreKept(t *testing.T) {
	h := newHarness(t)
	c := h.withKey(t, h.web.URL)
	got, err := c.GetProperties(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	keep := &aztables.RetentionPolicy{Enabled: to.Ptr(true), Days: to.Ptr(int32(5))}
	got.Logging = &aztables.Logging{Read: to.Ptr(true), Write: to.Ptr(true), Delete: to.Ptr(true), Version: to.Ptr("1.0"), RetentionPolicy: keep}
	got.MinuteMetrics = &aztables.Metrics{Enabled: to.Ptr(true), IncludeAPIs: to.Ptr(true), Version: to.Ptr("1.0"), RetentionPolicy: keep}
	rule := &aztables.CorsRule{AllowedHeaders: to.Ptr("x-ms-meta-data*"), AllowedMethods: to.Ptr("PUT"), AllowedOrigins: to.Ptr("www.xyz.com"), ExposedHeaders: to.Ptr("x-ms-meta-source*"), MaxAgeInSeconds: to.Ptr(int32(500))}
	got.Cors = []*aztables.CorsRule{rule}
	if _, err := c.SetProperties(t.Context(), got.ServiceProperties, nil); err != nil {
		t.Fatal(err)
	}
	again, err := c.GetProperties(t.Context(), nil)
	if err != nil || !reflect.DeepEqual(again.ServiceProperties, got.ServiceProperties) {
		t.Errorf("%v: set %s\ngot %s", err, marshal(t, got), marshal(t, again))
	}
	_, err = c.SetProperties(t.Context(), aztables.ServiceProperties{Cors: []*aztables.CorsRule{rule, rule, rule, rule, rule, rule}}, nil)
	wantCode(t, err, 400, aztables.InvalidXmlDocument)
	keep.Days = to.Ptr(int32(366))
	_, err = c.SetProperties(t.Context(), aztables.ServiceProperties{HourMetrics: &aztables.Metrics{Enabled: to.Ptr(true), Version: to.Ptr("1.0"), RetentionPolicy: keep}}, nil)
	wantCode(t, err, 400, aztables.InvalidXmlDocument)

	for _, at := range []string{"", "/" + testAccount + "-secondary"} {
		stats, err := h.withKey(t, h.web.URL+at).GetStatistics(t.Context(), nil)
		if err != nil || *stats.GeoReplication.Status != aztables.GeoReplicationStatusLive || stats.GeoReplication.LastSyncTime == nil {
			t.Errorf("%q: %+v, %v", at, stats, err)
		}
	}
}

func TestAccessPolicies(t *testing.T) {
	h := newHarness(t)
	h.table(t)
	c := h.withKey(t, h.web.URL).NewClient("People")
	if res, err := c.GetAccessPolicy(t.Context(), nil); err != nil || len(res.SignedIdentifiers) != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	start := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	want := []*aztables.SignedIdentifier{
		{ID: to.Ptr("bare")},
		{ID: to.Ptr("full"), AccessPolicy: &aztables.AccessPolicy{Start: &start, Expiry: &start, Permission: to.Ptr("raud")}},
	}
	if _, err := c.SetAccessPolicy(t.Context(), &aztables.SetAccessPolicyOptions{TableACL: want}); err != nil {
		t.Fatal(err)
	}
	res, err := c.GetAccessPolicy(t.Context(), nil)
	if err != nil || len(res.SignedIdentifiers) != 2 || !reflect.DeepEqual(res.SignedIdentifiers[1], want[1]) {
		t.Fatalf("%s, %v", marshal(t, res), err)
	}
	_, err = c.SetAccessPolicy(t.Context(), &aztables.SetAccessPolicyOptions{TableACL: []*aztables.SignedIdentifier{{AccessPolicy: want[1].AccessPolicy}}})
	wantCode(t, err, 400, aztables.InvalidXmlDocument)
	if _, err := c.SetAccessPolicy(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if res, err := c.GetAccessPolicy(t.Context(), nil); err != nil || len(res.SignedIdentifiers) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	_, err = h.withKey(t, h.web.URL).NewClient("Nowhere").GetAccessPolicy(t.Context(), nil)
	wantCode(t, err, 404, aztables.TableNotFound)
}
