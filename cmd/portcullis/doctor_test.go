package main

import (
	"os"
	"slices"
	"testing"
)

// TestTheDoctorKnowsEveryFunction: one that is left out could be reached unseen.
func TestTheDoctorKnowsEveryFunction(t *testing.T) {
	dirs, err := os.ReadDir("../../functions")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no functions: %v", err)
	}
	for _, d := range dirs {
		if !slices.Contains(functions, d.Name()) {
			t.Errorf("the doctor does not look at %s", d.Name())
		}
	}
	for _, name := range functions {
		if !slices.ContainsFunc(dirs, func(d os.DirEntry) bool { return d.Name() == name }) {
			t.Errorf("there is no function %s", name)
		}
	}
}
