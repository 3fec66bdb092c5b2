// Package advice finds in a package's source the places that make findings, for tests that want each of them made and what it
// advises done.
package advice

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Wording is what a finding says in any case, in its what, its why and its fix: the constant parts of each.
type Wording [3][]string

// Of reports whether a finding of these texts can be of the place.
func (w Wording) Of(what, why, fix string) bool {
	for i, text := range []string{what, why, fix} {
		if slices.ContainsFunc(w[i], func(part string) bool { return !strings.Contains(text, part) }) {
			return false
		}
	}
	return true
}

// Sites returns the places in a directory's package that call add(severity, what, why, fix), all but those of severity OK, by
// their position.
func Sites(t testing.TB, dir string) map[string]Wording {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	verb := regexp.MustCompile(`%[-+# 0-9.\[\]]*[a-zA-Z]`)
	found := make(map[string]Wording)
	set := token.NewFileSet()
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 4 {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "add" {
				return true
			}
			if severity, ok := call.Args[0].(*ast.Ident); ok && severity.Name == "OK" {
				return true
			}
			var w Wording
			for i, arg := range call.Args[1:] {
				ast.Inspect(arg, func(n ast.Node) bool {
					if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
						text, _ := strconv.Unquote(lit.Value)
						w[i] = append(w[i], verb.Split(text, -1)...)
					}
					return true
				})
			}
			found[set.Position(call.Pos()).String()] = w
			return true
		})
	}
	return found
}
