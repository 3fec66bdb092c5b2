package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
)

// CheckName allows what is safe in a file name, a log line, a table and a command line.
func CheckName(name string) error {
	if name == "" {
		return errors.New("is empty: give the router a name that stays the same")
	}
	// A DNS label's length (RFC 1035), which host names have anyway.
	if len(name) > 63 {
		return errors.New("is longer than 63 characters")
	}
	// Commands would read it as an option, and those that are advised name members.
	if name[0] == '-' {
		return errors.New("begins with '-'")
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return fmt.Errorf("has the character %q: letters, digits, '.', '_' and '-' are allowed", r)
		}
	}
	return nil
}

// byPackage is the line by which the packages' installation (.ci/package/postinstall)
// keeps the host's name, with the machine that it was done on. Nobody has given that
// name: one that is asked for takes its place, and a copy of the machine, as from an
// image, is another one and has its own.
var byPackage = regexp.MustCompile(`(?m)^name: (\S+)  # the host's, by the package, for machine ([0-9a-f]{12})$`)

// unnamed gives back the comment that the package found in the line's place.
func unnamed(text []byte) []byte { return byPackage.ReplaceAllLiteral(text, []byte("# name: router1")) }

// packagedName notes a name by the package, and drops it where that was for another
// machine than this; "" is one that cannot be told.
func (f *File) packagedName(text []byte, this string) {
	m := byPackage.FindSubmatch(text)
	if f.NameByPackage = m != nil && string(m[1]) == f.Name; !f.NameByPackage {
		return
	}
	if this != "" && this != string(m[2]) {
		f.Name = Default().Name
	}
}

// machine is a digest of what systemd knows this installation by, "" where that is
// not known.
func machine() string {
	id, err := os.ReadFile("/etc/machine-id")
	if id = bytes.TrimSpace(id); err != nil || len(id) == 0 {
		return ""
	}
	sum := sha256.Sum256(id)
	return hex.EncodeToString(sum[:])[:12]
}

// named says whether a name is among the settings.
func named(settings []Setting) bool {
	return slices.ContainsFunc(settings, func(s Setting) bool { return s.Key == "name" })
}
