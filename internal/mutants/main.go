// Command mutants tests the tests: it makes one small mistake at a time, in a comparison, a number, a statement, and sees
// whether a test notices.
//
//	go run ./internal/mutants [-n 300] [-seed 1] [-only REGEX] [-short=false] PACKAGES [TESTED-BY...]
//
// PACKAGES is a package or a pattern. The tests that are run are its own and those of TESTED-BY, without those
// that measure. All mistakes are compiled into each test binary at once, and an environment variable chooses one:
// a mutant then costs the run of those tests that reach it, and nothing else. A mutant that no test reaches survives.
//
// equal.txt lists the mutants that no test can tell from the sources, each with the reason. A listed mutant counts as
// explained; an entry that names none, or one that a test does notice, is an error. The command ends with a line that
// counts, and with 1 where more than a twentieth was neither killed nor explained.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

//go:embed equal.txt
var equal string

func main() {
	o := options{equal: equal}
	flag.IntVar(&o.n, "n", 300, "how many mutants, chosen by the seed")
	flag.Uint64Var(&o.seed, "seed", 1, "what they are chosen by")
	only := flag.String("only", "", "choose among those alone whose description matches")
	flag.BoolVar(&o.short, "short", true, "run the tests with -short")
	skip := flag.String("skip", "", "tests to leave out, as well")
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.packages, o.tests = flag.Arg(0), flag.Args()
	o.skip = strings.TrimSuffix("^(TestFigures|TestSoak)|"+*skip, "|")
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants: -only:", err)
		os.Exit(2)
	}
	score, err := run(context.Background(), o, os.Stdout)
	fmt.Println(score)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if score.survived*20 > score.killed+score.explained+score.survived {
		os.Exit(1)
	}
}

type options struct {
	n        int
	seed     uint64
	only     *regexp.Regexp
	skip     string
	short    bool
	equal    string
	packages string
	tests    []string
}

type score struct{ killed, explained, survived int }

func (s score) String() string {
	return fmt.Sprintf("%d mutants: %d killed, %d explained, %d survived", s.killed+s.explained+s.survived, s.killed, s.explained, s.survived)
}

// run tries the mutants that the options choose.
func run(ctx context.Context, o options, out io.Writer) (score, error) {
	var s score
	root, packages, err := load(ctx, o.packages)
	if err != nil {
		return s, err
	}
	var all []*mutant
	files := make(map[string]bool)
	for _, p := range packages {
		all = append(all, p.mutants(root)...)
		for _, f := range p.files {
			files[relative(root, f.name)] = true
		}
	}
	reasons, err := explained(o.equal, all, files)
	if err != nil {
		return s, err
	}
	chosen := make([]*mutant, 0, len(all))
	for _, m := range all {
		if o.only == nil || o.only.MatchString(m.String()) {
			chosen = append(chosen, m)
		}
	}
	rand.New(rand.NewPCG(o.seed, 0)).Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	chosen = chosen[:min(o.n, len(chosen))]
	for i, m := range chosen {
		m.id = i + 1
	}

	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	tests, err := build(ctx, o, out, dir, packages, chosen)
	if err != nil {
		return s, err
	}
	fmt.Fprintf(out, "%d of %d mutants in %d files, %d tests, ready after %.0f s\n", len(chosen), len(all), len(files), len(tests), time.Since(began).Seconds())

	work := make(chan *mutant)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var stale []string
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for m := range work {
				noticed, by, failed := m.try(ctx, dir, tests)
				_, listed := reasons[m.String()]
				mu.Lock()
				switch {
				case failed != nil:
					err = failed
				case noticed && listed:
					stale = append(stale, fmt.Sprintf("%s is listed, and %s notices it", m, by))
				case noticed:
					s.killed++
				case listed:
					s.explained++
				default:
					s.survived++
					fmt.Fprintf(out, "survived: %s (line %d, %s)\n", m, m.line, by)
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range chosen {
		work <- m
	}
	close(work)
	workers.Wait()
	if err == nil && stale != nil {
		err = fmt.Errorf("equal.txt: %s", strings.Join(stale, "; "))
	}
	return s, err
}

// explained reads the list of equal mutants: a line that describes one as it is printed, and an indented line that says
// why. Of the files that are mutated here, each must be among the mutants.
func explained(list string, all []*mutant, files map[string]bool) (map[string]string, error) {
	known := make(map[string]bool)
	for _, m := range all {
		known[m.String()] = true
	}
	reasons := make(map[string]string)
	var of string
	for i, line := range strings.Split(list, "\n") {
		reason, indented := strings.CutPrefix(line, "\t")
		switch file, _, _ := strings.Cut(line, " "); {
		case line == "" || strings.HasPrefix(line, "#"):
		case indented && of != "":
			reasons[of], of = reason, ""
		case indented || of != "":
			return nil, fmt.Errorf("equal.txt:%d: want a mutant and below it, indented, one line that says why it is equal", i+1)
		case files[file] && !known[line]:
			return nil, fmt.Errorf("equal.txt:%d: there is no such mutant any more: %s", i+1, line)
		default:
			of = line
		}
	}
	if of != "" {
		return nil, fmt.Errorf("equal.txt: no reason for %s", of)
	}
	return reasons, nil
}

func relative(root, name string) string {
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return name
	}
	return filepath.ToSlash(rel)
}
