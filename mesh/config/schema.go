package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// node is one part of a JSON schema, as far as the configuration needs it.
type node struct {
	Schema      string           `json:"$schema,omitempty"`
	Title       string           `json:"title,omitempty"`
	Description string           `json:"description,omitempty"`
	Type        any              `json:"type,omitempty"` // a name, or several
	Enum        []string         `json:"enum,omitempty"`
	Default     any              `json:"default,omitempty"`
	Properties  map[string]*node `json:"properties,omitempty"`
	Items       *node            `json:"items,omitempty"`
	Additional  any              `json:"additionalProperties,omitempty"` // false, or of what the values are
}

// Schema is the JSON schema (draft 2020-12) of the configuration, for editors and for what writes configurations: its
// keys, types, choices and defaults. What a value must be beyond that, Validate says.
func Schema() []byte {
	c := Default()
	c.Name = "" // the host's
	root := describe(reflect.ValueOf(c), "")
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "banmesh.yaml, the configuration of a banmesh agent"
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // of the types above: cannot be
	}
	return append(b, '\n')
}

// describe walks the default configuration, so that a key without a default in the code cannot be in the
// schema with one.
func describe(v reflect.Value, key string) *node {
	switch x := v.Interface().(type) {
	case Duration:
		return &node{Type: []string{"string", "integer"}, Default: durationText(time.Duration(x)), Description: "a duration: 90s, 15m, 720h, 30d, 2w, or a number of seconds"}
	case Prefix:
		return &node{Type: "string", Description: "an address or a prefix"}
	}
	switch v.Kind() {
	case reflect.Struct:
		n := &node{Type: "object", Properties: make(map[string]*node), Additional: false}
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if name == "" || name == "-" {
				continue
			}
			n.Properties[name] = describe(v.Field(i), strings.TrimPrefix(key+"."+name, "."))
		}
		return n
	case reflect.Slice:
		return &node{Type: "array", Items: describe(reflect.Zero(v.Type().Elem()), "")}
	case reflect.Map:
		return &node{Type: "object", Additional: describe(reflect.Zero(v.Type().Elem()), "")}
	case reflect.Bool:
		return &node{Type: "boolean", Default: v.Bool()}
	case reflect.Int, reflect.Int64:
		return &node{Type: "integer", Default: v.Int()}
	}
	n := &node{Type: "string", Enum: choices[key]}
	if s := v.String(); s != "" {
		n.Default = s
	}
	return n
}

// durationText is a duration as a configuration says it.
// Go writes 2h0m0s where people write 2h.
func durationText(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}
