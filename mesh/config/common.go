package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// commonKeys are the sections and keys that must be, or should be, the same on all members, and hold no path, no command and no
// secret: a new machine takes these from its inviter, which may be compromised, and no others.
// What is a machine's own (addresses, files, never_ban, which all members count anyway) stays out.
var commonKeys = []string{
	"gossip.label", "gossip.profile", "bans.", "quorum.", "limits.",
	"commit.driver", "commit.conductors", "commit.user", "commit.tenant", "commit.neighborhood", "commit.description", "commit.validation",
	"commit.validate", "commit.host_key_algorithms", "commit.pin_sha256", "commit.candidate", "commit.window", "commit.max_wait",
	"commit.timeout", "commit.max_addresses", "commit.max_shrink_percent", "commit.max_growth_percent", "commit.growth_floor",
	"commit.min_interval", "commit.foreign", "commit.remove_foreign_after", "commit.cut_sessions", "commit.save_startup",
}

// Common reports whether a member may tell a new machine the value of that dotted key.
func Common(key string) bool {
	return slices.ContainsFunc(commonKeys, func(k string) bool { return key == k || strings.HasSuffix(k, ".") && strings.HasPrefix(key, k) })
}

// Common are the common keys that differ from the defaults, dotted, in the form that the file takes them in.
func (c *Config) Common() map[string]any {
	out := make(map[string]any)
	own := Default()
	for _, key := range c.Differing(&own) {
		if Common(key) {
			out[key] = plainValue(fieldOf(reflect.ValueOf(*c), key))
		}
	}
	return out
}

// fieldOf finds the value of a dotted key.
func fieldOf(v reflect.Value, key string) reflect.Value {
	first, rest, more := strings.Cut(key, ".")
	for i := range v.NumField() {
		if strings.Split(v.Type().Field(i).Tag.Get("yaml"), ",")[0] == first {
			if more {
				return fieldOf(v.Field(i), rest)
			}
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// plainValue is a value as YAML and JSON hold it.
func plainValue(v reflect.Value) any {
	if d, ok := v.Interface().(Duration); ok {
		return time.Duration(d).String()
	}
	return v.Interface()
}

// Differing names the keys, dotted, in which two configurations differ.
func (c *Config) Differing(other *Config) []string {
	return differing(reflect.ValueOf(*c), reflect.ValueOf(*other), "")
}

// By reflection over the yaml tags, so that a new key is compared, told and reloaded without a second list of keys.
func differing(a, b reflect.Value, prefix string) []string {
	var keys []string
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key := prefix + strings.Split(f.Tag.Get("yaml"), ",")[0]
		switch {
		case reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, differing(a.Field(i), b.Field(i), key+".")...)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}
