// Command mutants tests the tests: it changes one thing in a package, a comparison, a number, a statement, and sees
// whether a test notices.
//
//	go run ./internal/mutants [-n 300] [-seed 1] [-timeout 60s] [-only REGEX] PACKAGE [TESTED-BY...]
//
// The tests that are run are PACKAGE's own and those of the packages TESTED-BY, with -short and without those that measure. The sources stay as they
// are: the go command is given each changed file as an overlay. It ends with a line that counts, and with 1 where more
// than a twentieth survived.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.n, "n", 300, "how many mutants, chosen by the seed")
	flag.Uint64Var(&o.seed, "seed", 1, "what they are chosen by")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "how long the tests may take; longer is noticed")
	only := flag.String("only", "", "mutate only the files whose names match")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.pkg, o.tests = flag.Arg(0), flag.Args()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants: -only:", err)
		os.Exit(2)
	}
	score, err := run(context.Background(), o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	fmt.Println(score)
	if score.survived*20 > score.killed+score.survived {
		os.Exit(1)
	}
}

type options struct {
	n       int
	seed    uint64
	timeout time.Duration
	only    *regexp.Regexp
	pkg     string
	tests   []string
}

// score counts mutants. Those that do not compile are neither.
type score struct{ killed, survived, invalid int }

func (s score) String() string {
	return fmt.Sprintf("%d mutants: %d killed, %d survived; %d more did not compile", s.killed+s.survived, s.killed, s.survived, s.invalid)
}

// run tries mutants until n of them compile, or there are no more.
func run(ctx context.Context, o options, out io.Writer) (score, error) {
	dir, files, err := sources(ctx, o.pkg)
	if err != nil {
		return score{}, err
	}
	var all []mutant
	for _, name := range files {
		if o.only != nil && !o.only.MatchString(name) {
			continue
		}
		ms, err := mutantsOf(filepath.Join(dir, name))
		if err != nil {
			return score{}, err
		}
		all = append(all, ms...)
	}
	if err := test(ctx, o, nil); err != nil {
		return score{}, fmt.Errorf("the tests of %s fail without any mutant: %w", strings.Join(o.tests, " "), err)
	}
	rand.New(rand.NewPCG(o.seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	var (
		mu   sync.Mutex
		next int
		s    score
		done sync.WaitGroup
		bad  error
	)
	for range runtime.NumCPU() {
		done.Go(func() {
			for {
				mu.Lock()
				if next == len(all) || s.killed+s.survived >= o.n || bad != nil {
					mu.Unlock()
					return
				}
				m := all[next]
				next++
				mu.Unlock()
				err := test(ctx, o, &m)
				mu.Lock()
				switch {
				case err == nil:
					s.survived++
					fmt.Fprintf(out, "survived: %s\n", m)
				case errors.Is(err, errBuild):
					s.invalid++
				case errors.Is(err, errNoticed):
					s.killed++
				default:
					bad = err
				}
				mu.Unlock()
			}
		})
	}
	done.Wait()
	return s, bad
}

// sources are the files of a package that are compiled here, without its tests.
func sources(ctx context.Context, pkg string) (dir string, files []string, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-json=Dir,GoFiles", pkg)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("go list %s: %w", pkg, err)
	}
	var listed struct {
		Dir     string
		GoFiles []string
	}
	if err := json.Unmarshal(b, &listed); err != nil {
		return "", nil, fmt.Errorf("go list %s: %w", pkg, err)
	}
	return listed.Dir, listed.GoFiles, nil
}

var (
	errBuild   = errors.New("does not compile")
	errNoticed = errors.New("a test fails")
)

// test runs the tests over a mutant, or over the sources as they are.
func test(ctx context.Context, o options, m *mutant) error {
	args := []string{"test", "-short", "-count=1", "-failfast", "-skip", "^(TestFigures|TestSoak)", "-timeout", o.timeout.String()}
	if m != nil {
		dir, err := os.MkdirTemp("", "mutants-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		changed, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(changed, m.source, 0o600); err != nil {
			return err
		}
		b, err := json.Marshal(map[string]any{"Replace": map[string]string{m.file: changed}})
		if err != nil {
			return err
		}
		if err := os.WriteFile(overlay, b, 0o600); err != nil {
			return err
		}
		args = append(args, "-overlay", overlay, "-vet=off")
	}
	b, err := exec.CommandContext(ctx, "go", append(args, o.tests...)...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return err
	case strings.Contains(string(b), "[build failed]") || strings.Contains(string(b), "[setup failed]"):
		return errBuild
	}
	return fmt.Errorf("%w: %s", errNoticed, lastLines(string(b), 5))
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// mutant is a file with one change.
type mutant struct {
	file   string
	line   int
	what   string
	source []byte
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s", filepath.Base(m.file), m.line, m.what)
}

// other is what an operator is changed into: the mistake that a tired person makes.
var other = map[token.Token]token.Token{
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL,
}

// mutantsOf makes every mutant of a file.
func mutantsOf(path string) ([]mutant, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var out []mutant
	// keep prints the file as it is now, changed.
	keep := func(at token.Pos, what string) {
		var b strings.Builder
		if format.Node(&b, set, file) == nil {
			out = append(out, mutant{path, set.Position(at).Line, what, []byte(b.String())})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok != token.IMPORT && n.Tok != token.CONST
		case *ast.BinaryExpr:
			if to, ok := other[n.Op]; ok {
				from := n.Op
				n.Op = to
				keep(n.OpPos, fmt.Sprintf("%s → %s", from, to))
				n.Op = from
			}
		case *ast.BasicLit:
			if n.Kind == token.INT {
				from := n.Value
				n.Value = map[bool]string{true: "1", false: "0"}[from == "0"]
				keep(n.Pos(), fmt.Sprintf("%s → %s", from, n.Value))
				n.Value = from
			}
		case *ast.Ident:
			if to, ok := map[string]string{"true": "false", "false": "true"}[n.Name]; ok {
				from := n.Name
				n.Name = to
				keep(n.Pos(), fmt.Sprintf("%s → %s", from, to))
				n.Name = from
			}
		case *ast.IfStmt:
			from := n.Cond
			n.Cond = &ast.UnaryExpr{Op: token.NOT, X: &ast.ParenExpr{X: from}}
			keep(n.Pos(), "if negated")
			n.Cond = from
		case *ast.BlockStmt:
			n.List = dropped(n.List, keep)
		case *ast.CaseClause:
			n.Body = dropped(n.Body, keep)
		}
		return true
	})
	return out, nil
}

// dropped keeps a mutant without each of the statements that may be missing, and returns them all.
func dropped(list []ast.Stmt, keep func(token.Pos, string)) []ast.Stmt {
	for i, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.BranchStmt, *ast.DeferStmt:
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		default:
			continue
		}
		rest := slices.Delete(slices.Clone(list), i, i+1)
		whole := slices.Clone(list)
		copy(list, rest)
		list[len(list)-1] = &ast.EmptyStmt{Semicolon: s.End(), Implicit: true}
		keep(s.Pos(), fmt.Sprintf("statement dropped (%s)", strings.TrimPrefix(fmt.Sprintf("%T", s), "*ast.")))
		copy(list, whole)
	}
	return list
}
