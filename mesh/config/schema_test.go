package config

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// conforms says where a value is not what a schema wants, as far as Schema uses the language.
func conforms(n *node, v any, at string) (bad []string) {
	var kinds []string
	switch t := n.Type.(type) {
	case string:
		kinds = []string{t}
	case []any:
		for _, k := range t {
			kinds = append(kinds, fmt.Sprint(k))
		}
	}
	kind := map[bool]string{true: "integer"}[isInt(v)]
	switch v.(type) {
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case []any:
		kind = "array"
	case map[string]any:
		kind = "object"
	}
	if !slices.Contains(kinds, kind) {
		return []string{fmt.Sprintf("%s: %v is %q, want %v", at, v, kind, kinds)}
	}
	if s, ok := v.(string); ok && len(n.Enum) > 0 && !slices.Contains(n.Enum, s) {
		bad = append(bad, fmt.Sprintf("%s: %q is none of %v", at, s, n.Enum))
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			bad = append(bad, conforms(n.Items, e, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case map[string]any:
		for key, e := range v {
			if p := n.Properties[key]; p != nil {
				bad = append(bad, conforms(p, e, at+"."+key)...)
			} else if n.Additional == false {
				bad = append(bad, at+"."+key+": not known")
			}
		}
	}
	return bad
}

func isInt(v any) bool { _, ok := v.(int); return ok }

func TestTheSchemaTakesTheExample(t *testing.T) {
	var schema node
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../examples/banmesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var shown map[string]any
	if err := yaml.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	for _, bad := range conforms(&schema, shown, "") {
		t.Error(bad)
	}
	for key := range schema.Properties {
		if _, ok := shown[key]; !ok {
			t.Errorf("the schema has the key %s, which the example does not show", key)
		}
	}
	for text, at := range map[string]string{"nmae: x": ".nmae", "commit: {driver: ssh}": ".commit.driver", "join: x": ".join", "limits: {members: [1]}": ".limits.members[0]", "http: {allow_remote: 1}": ".http.allow_remote"} {
		var wrong map[string]any
		if err := yaml.Unmarshal([]byte(text), &wrong); err != nil {
			t.Fatal(err)
		}
		if bad := conforms(&schema, wrong, ""); len(bad) != 1 {
			t.Errorf("%s: %v; want one fault at %s", text, bad, at)
		}
	}
	if d := schema.Properties["history"].Properties["keep"]; d.Default != "2160h" {
		t.Errorf("history.keep: default %v", d.Default)
	}
}

func TestEveryChoiceIsOfAKey(t *testing.T) {
	var schema node
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for key, words := range choices {
		n := &schema
		for part := range strings.SplitSeq(key, ".") {
			if n != nil {
				n = n.Properties[part]
			}
		}
		if n == nil || !slices.Equal(n.Enum, words) {
			t.Errorf("the schema does not have the choices of %s", key)
		}
	}
}
