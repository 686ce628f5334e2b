package main

import (
	"maps"
	"testing"
)

func TestSecretsComeFromTheEnvironmentAndOtherSettingsFromTheFlag(t *testing.T) {
	got, err := settingsOf([]string{"PORTCULLIS_SECRET_A=a=b", "PORTCULLIS_SECRET_B=b", "PORTCULLIS_TOKEN=t", "PATH=/bin"}, []string{"PORTCULLIS_SECRET_B=c", "X=y"})
	if err != nil || !maps.Equal(got, map[string]string{"PORTCULLIS_SECRET_A": "a=b", "PORTCULLIS_SECRET_B": "c", "X": "y"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := settingsOf(nil, []string{"X"}); err == nil {
		t.Error("a setting without a value is taken")
	}
}
