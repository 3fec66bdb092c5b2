package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banmesh/mesh/bench"
	"banmesh/mesh/control"
	"banmesh/mesh/doctor"
)

// TestTheInterfacesAreDocumented: docs/interfaces.md has each field of what commands print for programs, and no other; what may
// be absent is marked there.
func TestTheInterfacesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/interfaces.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?m)^##+ (.*)$`)
	documented := make(map[string]map[string]bool) // by section: may the field be absent?
	at := section.FindAllStringSubmatchIndex(string(text), -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		fields := make(map[string]bool)
		for line := range strings.Lines(string(text[m[1]:end])) {
			cells := strings.SplitN(line, "|", 3)
			if len(cells) < 3 {
				continue
			}
			for _, f := range regexp.MustCompile("`([^`]+)`(\\?)?").FindAllStringSubmatch(cells[1], -1) {
				fields[f[1]] = f[2] != ""
			}
		}
		documented[string(text[m[2]:m[3]])] = fields
	}
	for name, value := range map[string]any{
		"list, export": control.Ban{}, "members": control.Member{}, "status": control.Status{}, "diff, commit": control.CommitReply{}, "why": control.Why{},
		"allow list": control.Allow{}, "history": control.Past{}, "stats": control.Stats{}, "monitor": control.Event{}, "keyring list": control.KeyringReply{},
		"invite": control.InviteReply{}, "invite --list": control.Invitation{}, "doctor, fail2ban check": doctor.Finding{}, "bench mesh": bench.Report{}, "version": build{},
	} {
		want := make(map[string]bool)
		jsonFields(reflect.TypeOf(value), "", want)
		if got := documented[name]; !maps.Equal(got, want) {
			for _, f := range slices.Sorted(maps.Keys(want)) {
				if absent, ok := got[f]; !ok || absent != want[f] {
					t.Errorf("%s: field %s, which may be absent: %v, is documented: %v, as one that may be absent: %v", name, f, want[f], ok, absent)
				}
				delete(got, f)
			}
			for f := range got {
				t.Errorf("%s: field %s is documented, but does not exist", name, f)
			}
		}
	}
	for _, path := range controlPaths(t) {
		if !strings.Contains(string(text), path) {
			t.Errorf("path %s of the control API is not documented", path)
		}
	}
}

// jsonFields collects the fields of a type with their paths, and whether they may be absent.
func jsonFields(typ reflect.Type, prefix string, into map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || !strings.HasPrefix(typ.PkgPath(), "banmesh/") && typ.PkgPath() != "main" {
		return
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			jsonFields(f.Type, prefix, into)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		into[prefix+name] = strings.HasPrefix(options, "omit")
		jsonFields(f.Type, prefix+name+".", into)
	}
}

// controlPaths returns the constants Path... of package control.
func controlPaths(t *testing.T) (paths []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../mesh/control/doc.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Path") {
			path, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
		return true
	})
	if len(paths) == 0 {
		t.Fatal("package control has no paths: the test proves nothing")
	}
	return paths
}
