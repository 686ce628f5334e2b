package main

import (
	"slices"
	"testing"
)

func TestRecent(t *testing.T) {
	for version, want := range map[string]bool{
		"v20.0.0\n": true, "v20.20.2\n": true, "v24.1.0\n": true, "v100.0.0\n": true,
		"v18.20.4\n": false, "v2.0.0\n": false, "": false, "not found\n": false,
	} {
		if got := recent(version); got != want {
			t.Errorf("recent(%q) = %v", version, got)
		}
	}
}

func TestVariables(t *testing.T) {
	got := variables("A='one'\nB='Endpoint=sb://x/;Key=a=='\n\nC='it'\\''s'\nD=''\n")
	if want := []string{"A=one", "B=Endpoint=sb://x/;Key=a==", "C=it's", "D="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
