package examples

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"banmesh/mesh/config"
)

func TestConfigurationShowsEveryKeyWithItsDefault(t *testing.T) {
	f, err := config.Check("banmesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	// These two have no default that would be of use.
	want.Name = "router1"
	want.Gossip.Keyring = "/etc/banmesh/keyring.json"
	if got, want := tree(t, f.Config), tree(t, want); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}

	var shown map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "banmesh.yaml")), &shown); err != nil {
		t.Fatal(err)
	}
	if got, want := keys("", shown), keys("", tree(t, want)); !slices.Equal(got, want) {
		t.Errorf("shows the keys\n%q, want\n%q", got, want)
	}
}

// TestConfigurationsOfTheREADMEAreTaken puts together what README.md tells its two readers to write down.
func TestConfigurationsOfTheREADMEAreTaken(t *testing.T) {
	var server string
	var commits []string
	for _, block := range regexp.MustCompile(`(?m)(?:^ {4,}\S.*\n)+`).FindAllString(read(t, "../README.md"), -1) {
		block = regexp.MustCompile(`(?m)^ {4}(?:   )?`).ReplaceAllString(block, "")
		switch {
		case strings.HasPrefix(block, "name: "):
			server = block
		case strings.HasPrefix(block, "commit:"):
			commits = append(commits, strings.Replace(block, "the 64 digits that trust has shown", strings.Repeat("ab", 32), 1))
		}
	}
	if server == "" || len(commits) != 2 {
		t.Fatalf("README.md shows the server's configuration %q and the conductor's %q; want one and two", server, commits)
	}
	for _, text := range append(commits, "") {
		path := filepath.Join(t.TempDir(), "banmesh.yaml")
		if err := os.WriteFile(path, []byte(server+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Check(path); err != nil {
			t.Errorf("%v in:\n%s", err, server+text)
		}
	}
}

// tree is v as YAML shows it, so that nil and empty lists are the same.
func tree(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func keys(prefix string, m map[string]any) []string {
	var list []string
	for key, value := range m {
		list = append(list, prefix+key)
		if below, ok := value.(map[string]any); ok {
			list = append(list, keys(prefix+key+".", below)...)
		}
	}
	slices.Sort(list)
	return list
}
