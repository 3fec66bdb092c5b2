package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestEveryAdvisedCommandExists: what any message of the program tells people to run is a command of it, and so is each flag.
// People paste it.
func TestEveryAdvisedCommandExists(t *testing.T) {
	mention := regexp.MustCompile("(`|: |; |, then |and then |^)banmesh ([a-z0-9-]+)((?: [^`;:,()\"'\\s]+)*)")
	root := commands(newConsole(nil, nil, nil, func(string) string { return "" }))
	checked := 0
	for path, texts := range messages(t, "../..") {
		for _, text := range texts {
			for _, m := range mention.FindAllStringSubmatch(text, -1) {
				cmd := named(root, m[2])
				if cmd == nil {
					if m[1] != "" && m[2] != "does" && m[2] != "--help" { // a sentence may begin with the name
						t.Errorf("%s: there is no command banmesh %s: %q", path, m[2], text)
					}
					continue
				}
				checked++
				flags := cmd.Flags
				for _, word := range strings.Fields(m[3]) {
					if word == "%s" { // whichever
						break
					}
					name, isFlag := strings.CutPrefix(word, "--")
					switch sub := named(cmd.Subcommands, word); {
					case sub != nil:
						cmd, flags = sub, sub.Flags
					case isFlag && name != "":
						name, _, _ = strings.Cut(name, "=")
						if !slices.ContainsFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }) {
							t.Errorf("%s: banmesh %s has no flag --%s: %q", path, cmd.Name, name, text)
						}
					}
				}
				if len(cmd.Subcommands) > 0 && cmd.Action == nil && m[3] != "" && !strings.HasPrefix(m[3], " %s") {
					t.Errorf("%s: banmesh %s has no such subcommand: %q", path, cmd.Name, text)
				}
			}
		}
	}
	if checked < 60 {
		t.Fatalf("%d advised commands: the test proves nothing", checked)
	}
}

func named(cmds []*cli.Command, name string) *cli.Command {
	for _, c := range cmds {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// messages are the string literals of the program below a directory, by file; parts that are added to one another are one.
func messages(t *testing.T, dir string) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case ast.Expr:
				if text, ok := joined(n); ok {
					out[path] = append(out[path], text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// joined is the text of a literal, or of an addition of literals and of what is not known here.
func joined(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, isLeft := joined(e.X)
		right, isRight := joined(e.Y)
		if !isLeft {
			left = "%s"
		}
		if !isRight {
			right = "%s"
		}
		return left + right, isLeft || isRight
	}
	return "", false
}
