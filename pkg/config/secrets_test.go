package config_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/config"
)

func TestOnlySettingsForSecretsAreGivenAsSecrets(t *testing.T) {
	s := config.NewSecrets(env(map[string]string{
		"PORTCULLIS_SECRET_A": "hush", "PORTCULLIS_SECRET_B": "@Microsoft.KeyVault(SecretUri=https://v/secrets/b)", "Tables": "AccountKey=hush", "PORTCULLIS_SECRET_C": "",
	}))
	names := []string{"PORTCULLIS_SECRET_B", "Tables", "PORTCULLIS_SECRET_A", "PORTCULLIS_SECRET_C", "PORTCULLIS_SECRET_D", ""}
	got := s.Values(names)
	if want := []config.Secret{"@Microsoft.KeyVault(SecretUri=https://v/secrets/b)", "", "hush", "", "", ""}; !slices.Equal(got, want) {
		t.Errorf("%d values are not those that are set", len(got))
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got, got); text != fmt.Sprintf("%v %+v %#v", make([]config.Secret, 6), make([]config.Secret, 6), make([]config.Secret, 6)) {
		t.Errorf("a secret shows: %s", text)
	}
	for i, want := range []string{"unresolved", "missing", "set", "missing", "missing", "missing"} {
		if got := s.State(names[i]); got != want {
			t.Errorf("%s is %s, want %s", names[i], got, want)
		}
	}
}
