package examples

import (
	"reflect"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"banmesh/mesh"
)

func TestConfigurationShowsEveryKeyWithItsDefault(t *testing.T) {
	f, err := mesh.LoadConfig("banmesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Error(err)
	}
	want := mesh.DefaultConfig()
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
