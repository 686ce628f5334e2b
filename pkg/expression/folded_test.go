package expression_test

import (
	"testing"

	"github.com/portcullis-access/portcullis/pkg/expression"
)

func TestFoldedKeysAreFoundInAnyCase(t *testing.T) {
	tags, err := expression.Folded(map[string]string{"Env": "Prod", "team": "db"})
	if err != nil {
		t.Fatal(err)
	}
	vars := variables()
	vars["machine.tags"] = tags
	for text, want := range map[string]bool{
		`machine.tags.env == "Prod" && machine.tags.ENV == "Prod" && machine.tags["eNv"] == "Prod"`: true,
		`machine.tags.env == "prod"`:                                             false, // values are as they are
		`"ENV" in machine.tags && has(machine.tags.Team)`:                        true,
		`machine.tags.?Env.orValue("") == "Prod"`:                                true,
		`machine.tags[?"ENV"].orValue("") == "Prod"`:                             true,
		`machine.tags.?Owner.orValue("none") == "none"`:                          true,
		`machine.tags.exists(k, k == "env") && size(machine.tags) == 2`:          true,
		`machine.tags == {"env": "Prod", "team": "db"}`:                          true,
		`machine.tags.all(k, machine.tags[k.upperAscii()] != "") ? true : false`: true,
	} {
		p, err := env(t).Compile(text, expression.Truth)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Run(t.Context(), vars); err != nil || got != want {
			t.Errorf("%s gives %v, %v", text, got, err)
		}
	}
	p, err := env(t).Compile(`machine.tags.owner == ""`, expression.Truth)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), vars); err == nil {
		t.Error("a tag that is not there is no fault")
	}
	if _, err := expression.Folded(map[string]string{"Env": "a", "env": "b"}); err == nil {
		t.Error("two keys are one")
	}
}

func TestAProgramTellsWhatItUses(t *testing.T) {
	p, err := env(t).Compile(`request.port == 22 && [1].all(x, x == 1) && machine.tags.?a.orValue("") == ""`, expression.Truth)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"request.port": true, "machine.tags": true, "request.source": false, "now": false} {
		if p.Uses(name) != want {
			t.Errorf("%s: %v", name, p.Uses(name))
		}
	}
}
