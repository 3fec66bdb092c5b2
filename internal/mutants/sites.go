package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// pkg is a package that is mutated, type-checked.
type pkg struct {
	dir, name string
	set       *token.FileSet
	files     []source
	types     *types.Package
	info      *types.Info
}

type source struct {
	name string
	text []byte
	ast  *ast.File
}

// load type-checks the packages of a pattern, and says where their module is.
func load(ctx context.Context, pattern string) (root string, out []*pkg, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-export", "-deps", "-json=ImportPath,Name,Dir,GoFiles,Export,DepOnly,Module", pattern)
	cmd.Stderr = os.Stderr
	listing, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("go list %s: %w", pattern, err)
	}
	exports := make(map[string]string)
	set := token.NewFileSet()
	imports := importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for d := json.NewDecoder(bytes.NewReader(listing)); d.More(); {
		var l struct {
			ImportPath, Name, Dir, Export string
			GoFiles                       []string
			DepOnly                       bool
			Module                        *struct{ Dir string }
		}
		if err := d.Decode(&l); err != nil {
			return "", nil, fmt.Errorf("go list %s: %w", pattern, err)
		}
		exports[l.ImportPath] = l.Export // what a package imports is listed before it
		if l.DepOnly || len(l.GoFiles) == 0 {
			continue
		}
		p := &pkg{dir: l.Dir, name: l.Name, set: set, info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}}
		var files []*ast.File
		for _, name := range l.GoFiles {
			s := source{name: l.Dir + "/" + name}
			if s.text, err = os.ReadFile(s.name); err != nil {
				return "", nil, err
			}
			if s.ast, err = parser.ParseFile(set, s.name, s.text, parser.SkipObjectResolution); err != nil {
				return "", nil, err
			}
			p.files, files = append(p.files, s), append(files, s.ast)
		}
		if p.types, err = (&types.Config{Importer: imports}).Check(l.ImportPath, set, files, p.info); err != nil {
			return "", nil, err
		}
		root, out = l.Module.Dir, append(out, p)
	}
	return root, out, nil
}

// mutant is one mistake. What it puts into the source holds an @ for its number.
type mutant struct {
	id       int
	file     string // below the module's root
	path     string
	line     int
	function string
	text     string // what is changed
	change   string
	again    int // of equal ones in a function, which
	edits    []edit
}

// String describes a mutant without its line, so that the description lives as long as the code that it is about.
func (m *mutant) String() string {
	s := fmt.Sprintf("%s %s: %s: %s", m.file, m.function, m.text, m.change)
	if m.again > 0 {
		s += fmt.Sprintf(" (%d)", m.again+1)
	}
	return s
}

// edit puts text around a node. An infix one puts another text in the place of its operator too: it is the innermost of
// the edits around its node.
type edit struct {
	from, to      int
	before, after string
	op, oplen     int
	infix         bool
}

// calls are the mutants of an operator that become calls of the hook's functions.
var calls = map[token.Token]struct{ function, change string }{
	token.LSS: {"mutantLSS", "<="}, token.LEQ: {"mutantLEQ", "<"}, token.GTR: {"mutantGTR", ">="}, token.GEQ: {"mutantGEQ", ">"},
	token.ADD: {"mutantADD", "-"}, token.SUB: {"mutantSUB", "+"}, token.MUL: {"mutantMUL", "/"}, token.QUO: {"mutantQUO", "*"},
}

var negated = map[token.Token]string{token.EQL: "!=", token.NEQ: "==", token.LSS: ">=", token.LEQ: ">", token.GTR: "<=", token.GEQ: "<"}

// mutants are all mistakes that the tool knows to make in a package. What only a log or an error says, what only a simulation
// counts and what is reserved ahead is left alone.
func (p *pkg) mutants(root string) (out []*mutant) {
	seen := make(map[string]int)
	for _, file := range p.files {
		f := &finder{pkg: p, file: file, skip: make(map[ast.Node]bool)}
		f.add = func(node ast.Node, change string, edits ...edit) {
			text := strings.Join(strings.Fields(f.source(node)), " ")
			if len(text) > 80 {
				text = strings.ToValidUTF8(text[:77], "") + "..."
			}
			m := &mutant{file: relative(root, file.name), path: file.name, line: p.set.Position(node.Pos()).Line, function: f.function, text: text, change: change, edits: edits}
			key := m.String()
			m.again = seen[key]
			seen[key]++
			out = append(out, m)
		}
		ast.PreorderStack(file.ast, nil, f.visit)
	}
	return out
}

type finder struct {
	*pkg
	file     source
	function string
	skip     map[ast.Node]bool
	add      func(ast.Node, string, ...edit)
}

func (f *finder) at(p token.Pos) int       { return f.set.Position(p).Offset }
func (f *finder) source(n ast.Node) string { return string(f.file.text[f.at(n.Pos()):f.at(n.End())]) }
func (f *finder) around(n ast.Node, b, a string) edit {
	return edit{from: f.at(n.Pos()), to: f.at(n.End()), before: b, after: a}
}
func (f *finder) flip(n ast.Node) edit { return f.around(n, "(mutant(@) != (", "))") }

func (f *finder) visit(n ast.Node, stack []ast.Node) bool {
	if f.skip[n] {
		return false
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		f.function = n.Name.Name
		if n.Recv != nil {
			t, _, _ := strings.Cut(strings.TrimPrefix(f.source(n.Recv.List[0].Type), "*"), "[")
			f.function = t + "." + f.function
		}
	case *ast.GenDecl:
		if len(stack) == 1 {
			f.function = "package"
		}
		return n.Tok == token.VAR
	case *ast.ArrayType:
		f.skip[n.Len] = true
	case *ast.CompositeLit:
		if _, isMap := f.info.TypeOf(n).Underlying().(*types.Map); !isMap {
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					f.skip[kv.Key] = true
				}
			}
		}
	case *ast.CallExpr:
		return f.call(n)
	case *ast.BlockStmt:
		f.statements(n.List, stack)
	case *ast.CaseClause:
		f.statements(n.Body, stack)
	case *ast.CommClause:
		f.statements(n.Body, stack)
	case *ast.ReturnStmt:
		f.results(n, stack)
	case *ast.IfStmt:
		f.negate(n.Cond)
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.add(n, "not negated", f.flip(n))
		}
	}
	if e, ok := n.(ast.Expr); ok {
		if tv := f.info.Types[e]; tv.Value != nil {
			f.constant(e, tv.Type)
			return false
		}
	}
	if b, ok := n.(*ast.BinaryExpr); ok {
		f.binary(b)
	}
	return true
}

// call says whether the arguments of a call are mutated.
func (f *finder) call(n *ast.CallExpr) bool {
	switch fun := n.Fun.(type) {
	case *ast.Ident:
		if _, builtin := f.info.Uses[fun].(*types.Builtin); builtin && fun.Name == "make" {
			most := 2
			if _, slice := f.info.TypeOf(n).Underlying().(*types.Slice); !slice {
				_, channel := f.info.TypeOf(n).Underlying().(*types.Chan)
				most = map[bool]int{true: 2, false: 1}[channel]
			}
			for _, a := range n.Args[min(most, len(n.Args)):] {
				f.skip[a] = true
			}
		}
	case *ast.SelectorExpr:
		return !f.silent(n)
	}
	return true
}

// silent says whether a call changes nothing that anybody relies on.
func (f *finder) silent(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		id, ok := call.Fun.(*ast.Ident)
		return ok && id.Name == "panic" // without it the compiler misses a return
	}
	if sel.Sel.Name == "Grow" {
		return true
	}
	o := f.info.Uses[sel.Sel]
	return o != nil && o.Pkg() != nil && (o.Pkg().Path() == "log/slog" || o.Pkg().Path() == "fmt" && o.Name() == "Errorf" || strings.HasSuffix(o.Pkg().Path(), "/internal/mark"))
}

func (f *finder) binary(b *ast.BinaryExpr) {
	x, y := f.info.Types[b.X], f.info.Types[b.Y]
	kind, _ := x.Type.Underlying().(*types.Basic)
	if x.Value != nil {
		kind, _ = y.Type.Underlying().(*types.Basic)
	}
	if to, ok := negated[b.Op]; ok {
		f.add(b, fmt.Sprintf("%s → %s", b.Op, to), f.flip(b))
	}
	moment := negated[b.Op] != "" && types.TypeString(f.info.TypeOf(b.X), nil) == "time.Duration" // no test aims at a nanosecond
	if c, ok := calls[b.Op]; ok && !moment && kind != nil && kind.Info()&types.IsUntyped == 0 && (negated[b.Op] != "" || kind.Info()&types.IsNumeric != 0) {
		f.add(b, fmt.Sprintf("%s → %s", b.Op, c.change), edit{f.at(b.Pos()), f.at(b.End()), c.function + "(@, ", ")", f.at(b.OpPos), len(b.Op.String()), true})
	}
	if b.Op == token.LAND || b.Op == token.LOR { // a || b is !(!a && !b)
		f.add(b, fmt.Sprintf("%s → %s", b.Op, map[bool]string{true: "||", false: "&&"}[b.Op == token.LAND]), f.flip(b), f.flip(b.X), f.flip(b.Y))
		f.negate(b.X)
		f.negate(b.Y)
	}
}

// negate negates a condition that is no operation, whose own mutants would be the same.
func (f *finder) negate(e ast.Expr) {
	switch e.(type) {
	case *ast.CallExpr, *ast.Ident, *ast.SelectorExpr, *ast.IndexExpr:
		if f.info.Types[e].Value == nil {
			f.add(e, "negated", f.flip(e))
		}
	}
}

// constant changes each small number in a constant expression by one, and true and false. Ten and more, times and modes are
// what somebody chose: nobody could tell which of two neighbours is wrong.
func (f *finder) constant(e ast.Expr, t types.Type) {
	if id, ok := e.(*ast.Ident); ok && f.info.Uses[id].Parent() == types.Universe && (id.Name == "true" || id.Name == "false") {
		f.add(e, fmt.Sprintf("%s → %t", id.Name, id.Name == "false"), f.flip(e))
	}
	var bad bool
	name := types.TypeString(t, func(p *types.Package) string {
		if p == f.types {
			return ""
		}
		for _, i := range f.file.ast.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); path == p.Path() {
				if i.Name != nil {
					return i.Name.Name
				}
				return p.Name()
			}
		}
		bad = true
		return p.Name()
	})
	whole := f.source(e)
	if b, ok := t.Underlying().(*types.Basic); bad || name == "time.Duration" || strings.HasSuffix(name, ".FileMode") || !ok || b.Info()&types.IsNumeric == 0 || b.Info()&types.IsUntyped != 0 || strings.Contains(whole, "\n") {
		return
	}
	ast.Inspect(e, func(n ast.Node) bool {
		l, ok := n.(*ast.BasicLit)
		if !ok || l.Kind != token.INT || len(l.Value) > 1 {
			return true
		}
		v := int64(l.Value[0] - '0')
		start := f.at(l.Pos()) - f.at(e.Pos())
		for _, to := range []string{strconv.FormatInt(v-1, 10), strconv.FormatInt(v+1, 10)} {
			other := whole[:start] + to + whole[start+len(l.Value):]
			if _, err := types.Eval(f.set, f.types, e.Pos(), fmt.Sprintf("%s(%s)", name, other)); err == nil {
				f.add(e, fmt.Sprintf("%s → %s", l.Value, to), f.around(e, fmt.Sprintf("mutantOther[%s](true, @, ", name), ", "+other+")"))
			}
		}
		return true
	})
}

// statements leaves out each of the statements that may be missing, and goes on where a loop ends or the other way round.
func (f *finder) statements(list []ast.Stmt, stack []ast.Node) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt:
			if f.silent(s.X) {
				f.skip[s] = true
				continue
			}
		case *ast.AssignStmt:
			if blank, ok := s.Lhs[0].(*ast.Ident); s.Tok == token.DEFINE || ok && len(s.Lhs) == 1 && blank.Name == "_" {
				continue
			}
		case *ast.BranchStmt:
			if s.Tok != token.BREAK && s.Tok != token.CONTINUE {
				continue
			}
			if to := map[bool]string{true: "continue", false: "break"}[s.Tok == token.BREAK]; s.Label == nil && f.loops(stack) {
				f.add(s, fmt.Sprintf("%s → %s", s.Tok, to), f.around(s, "if mutant(@) { "+to+" }; ", ""))
			}
		case *ast.IncDecStmt, *ast.DeferStmt, *ast.SendStmt:
		default:
			continue
		}
		f.add(s, "dropped", f.around(s, "if !mutant(@) { ", " }"))
	}
}

// loops says whether a statement is in a loop that may end: one that must not would miss a return after it.
func (f *finder) loops(stack []ast.Node) bool {
	for i := len(stack) - 1; i >= 0; i-- {
		switch n := stack[i].(type) {
		case *ast.ForStmt:
			return n.Cond != nil
		case *ast.RangeStmt:
			return true
		case *ast.FuncLit, *ast.FuncDecl:
			return false
		}
	}
	return false
}

// results forgets an error that a function returns.
func (f *finder) results(n *ast.ReturnStmt, stack []ast.Node) {
	failure := types.Universe.Lookup("error").Type()
	var sig *types.Signature
	for i := len(stack) - 1; i >= 0 && sig == nil; i-- {
		switch d := stack[i].(type) {
		case *ast.FuncLit:
			sig, _ = f.info.TypeOf(d).(*types.Signature)
		case *ast.FuncDecl:
			sig, _ = f.info.Defs[d.Name].Type().(*types.Signature)
		}
	}
	if sig == nil || sig.Results().Len() != len(n.Results) {
		return
	}
	for i, e := range n.Results {
		if last := sig.Results().At(len(n.Results) - 1).Type(); f.info.Types[e].Value != nil && types.Identical(last, failure) && !f.info.Types[n.Results[len(n.Results)-1]].IsNil() {
			f.skip[e] = true // nobody looks at what is returned beside an error
		}
		if types.Identical(sig.Results().At(i).Type(), failure) && !f.info.Types[e].IsNil() {
			f.add(e, "→ nil", f.around(e, "mutantNil(@, ", ")"))
		}
	}
}
