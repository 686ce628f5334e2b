package infra

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portcullis-access/portcullis/pkg/config"
	"sigs.k8s.io/yaml"
)

type manifest struct {
	Kind      string
	Metadata  struct{ Name string }
	Data      map[string]string
	Resources []string
	Spec      struct {
		ScaleTargetRef struct{ Name string }
		Triggers       []struct {
			Type     string
			Metadata map[string]string
		}
	}
}

// manifests reads the Kubernetes manifests that the kustomization names.
func manifests(t *testing.T) (out []manifest) {
	t.Helper()
	const dir = "infra/kubernetes"
	var k manifest
	if err := yaml.Unmarshal([]byte(readFile(t, dir+"/kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil || len(files) != len(k.Resources)+1 {
		t.Errorf("the kustomization names %v, and there are %d files: %v", k.Resources, len(files), err)
	}
	for _, name := range k.Resources {
		for part := range strings.SplitSeq(readFile(t, dir+"/"+name), "\n---\n") {
			var m manifest
			if err := yaml.Unmarshal([]byte(part), &m); err != nil || m.Kind == "" {
				t.Fatalf("%s: %v", name, err)
			}
			out = append(out, m)
		}
	}
	return out
}

// TestKubernetes: the settings start the handler, and every queue that a function
// listens to makes pods.
func TestKubernetes(t *testing.T) {
	var scaled, listened []string
	for _, m := range manifests(t) {
		switch m.Kind {
		case "ConfigMap":
			known := slices.Clone(platform)
			for _, s := range config.Settings() {
				known = append(known, s.Name)
			}
			m.Data["FUNCTIONS_CUSTOMHANDLER_PORT"] = "8080" // the host sets it
			for name := range m.Data {
				if !slices.Contains(known, name) {
					t.Errorf("the setting %s is not one of ours", name)
				}
			}
			if _, err := config.Load(func(n string) (string, bool) { v, ok := m.Data[n]; return v, ok }, config.All); err != nil {
				t.Errorf("the handler would not start: %v", err)
			}
		case "ScaledObject":
			for _, tr := range m.Spec.Triggers {
				from := tr.Metadata["queueName"]
				if from == "" {
					from = tr.Metadata["topicName"] + "/" + tr.Metadata["subscriptionName"]
				}
				scaled = append(scaled, from)
			}
		}
	}
	for _, tr := range triggers(t) {
		// A dead-letter queue is emptied by the pod that is there anyway.
		if strings.HasSuffix(tr.QueueName, "$DeadLetterQueue") || strings.HasSuffix(tr.SubscriptionName, "$DeadLetterQueue") {
			continue
		}
		if tr.TopicName != "" {
			listened = append(listened, tr.TopicName+"/"+tr.SubscriptionName)
		} else {
			listened = append(listened, tr.QueueName)
		}
	}
	same(t, "infra/kubernetes/scaling.yaml", listened, scaled)
}

// TestActionsArePinned: by a digest, with the release that it is in a comment.
func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no workflow", err)
	}
	pinned := regexp.MustCompile(`uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	make := readFile(t, "Makefile")
	for _, path := range files {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(readFile(t, rel)) {
			line = strings.TrimSpace(line)
			if strings.Contains(line, "uses:") && !pinned.MatchString(line) {
				t.Errorf("%s: %s", rel, line)
			}
			if targets, ok := strings.CutPrefix(line, "- run: make "); ok {
				for target := range strings.FieldsSeq(targets) {
					if !strings.Contains(make, "\n"+target+":") {
						t.Errorf("%s: make has no target %s", rel, target)
					}
				}
			}
		}
	}
}
