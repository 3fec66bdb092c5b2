package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
)

// The child of the tests below is this test binary, which writes to a store for as long as it lives and prints what was
// acknowledged: "start ADDRESS" before a ban, "ack ADDRESS" after.
const childEnv = "BANMESH_STORE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		run := child
		if os.Getenv(meshEnv) != "" {
			run = meshChild
		}
		if err := run(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if raced { // which is ten times as slow, and finds what it looks for as soon
		flag.Set("rapid.checks", "40")
	}
	os.Exit(m.Run())
}

// child bans from several callers, lifts some of it, and merges what a peer sends. BANMESH_STORE_ROUNDS bounds it.
func child(path string) error {
	s, err := Open(Config{Path: path, Origin: "a"})
	if err != nil {
		return err
	}
	rounds, _ := strconv.Atoi(os.Getenv("BANMESH_STORE_ROUNDS"))
	base, _ := strconv.Atoi(os.Getenv("BANMESH_STORE_BASE"))
	var mu sync.Mutex
	say := func(word string, p netip.Prefix) {
		mu.Lock()
		defer mu.Unlock()
		os.Stdout.WriteString(word + " " + p.Addr().String() + "\n") // one write: whole, or not at all
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; rounds == 0 || i < rounds; i++ {
				p := addr(base + w*100000 + i)
				say("start", p)
				if _, err := s.Ban(ctx, []BanRequest{{Prefix: p, Until: Never}}); err != nil {
					panic(err)
				}
				say("ack", p)
				if i%5 == 4 {
					say("lift", p)
					if _, err := s.Lift(ctx, LiftRequest{Prefixes: []netip.Prefix{p}}); err != nil {
						panic(err)
					}
					say("lifted", p)
				}
				if i%3 == 2 { // a newer offence: the file deletes what it replaces
					say("start", p)
					if _, err := s.Ban(ctx, []BanRequest{{Prefix: p, Until: Never}}); err != nil {
						panic(err)
					}
					say("ack", p)
				}
				m := chunkMaker{id: LogID{"peer" + strconv.Itoa(w), uint64(base + 1)}}
				m.add(item{seq: uint64(i + 1), kind: KindBan, key: mustKey(addr(1<<24 + i)), start: 1, until: Never, jail: "sshd"})
				if _, err := s.Merge(m.bytes()); err != nil {
					panic(err)
				}
			}
		})
	}
	wg.Wait()
	return s.Close()
}

// promise is what a child has said of an address: the last words about it.
type promise map[string]string

// check fails unless everything acknowledged is there, and nothing that was not asked for.
func (p promise) check(t *testing.T, s *Store, what string) {
	t.Helper()
	live := map[string]bool{}
	for _, e := range s.List(Query{}) {
		live[e.Prefix.Addr().String()] = true
	}
	for a, word := range p {
		switch {
		case word == "ack" && !live[a]:
			t.Errorf("%s: acknowledged ban of %s is lost", what, a)
		case word == "lifted" && live[a]:
			t.Errorf("%s: acknowledged lift of %s is lost", what, a)
		}
	}
	for a := range live {
		if _, said := p[a]; !said && netip.MustParseAddr(a).As4()[0] < 12 {
			t.Errorf("%s: a ban of %s that nobody asked for", what, a)
		}
	}
	(&node{Store: s, t: t, clock: newClock()}).selfCheck(t)
}

// syscallLine is a line of strace: [pid] name(arguments) = result.
var syscallLine = regexp.MustCompile(`^(?:\[pid +(\d+)\] |(\d+) +)?(?:(\w+)\(|<\.\.\. (\w+) resumed>)`)

// step is one thing a process did: a write to a file, its size, a sync, or words on its output.
type step struct {
	kind string // write, size, sync, say
	at   int64
	data []byte
	file string
}

// trace reads what strace saw of the store files and of the output, in order. A call counts from when it returned; a sync
// covers what had returned when it began.
func trace(t *testing.T, r io.Reader, files ...string) []step {
	t.Helper()
	var steps []step
	fds := map[string]string{}
	unfinished := map[string]string{}
	began := map[string]int{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		line := sc.Text()
		m := syscallLine.FindStringSubmatch(line[:min(len(line), 80)]) // of a long one, the data is all the rest
		if m == nil {
			continue
		}
		pid, rest := m[1]+m[2], line[len(m[0]):]
		call := m[3] + "(" + rest
		if m[4] != "" {
			call = unfinished[pid] + rest
			delete(unfinished, pid)
		} else {
			began[pid] = len(steps)
			if head, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
				unfinished[pid] = head
				continue
			}
		}
		eq := strings.LastIndex(call, ") = ")
		if i := strings.LastIndex(call, ")"); eq < 0 && i >= 0 && strings.Contains(call[i:], "= ") {
			eq = i
		}
		open := strings.Index(call, "(")
		if eq < 0 || open < 0 {
			continue
		}
		name, args := call[:open], call[open+1:eq]
		result := strings.TrimSpace(call[eq+strings.Index(call[eq:], "=")+1:])
		if strings.HasPrefix(result, "-1") {
			continue
		}
		fd, rest, _ := strings.Cut(args, ", ")
		switch name {
		case "openat":
			path := stringOf(t, rest)
			if file := strings.TrimSuffix(path, ".new"); slices.Contains(files, file) {
				fds[strings.Fields(result)[0]] = file
			} else {
				delete(fds, strings.Fields(result)[0])
			}
		case "close":
			delete(fds, fd)
		case "pwrite64":
			if fds[fd] != "" {
				data := bytesOf(t, rest)
				parts := strings.Split(rest, ", ")
				at, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
				if err != nil {
					t.Fatalf("strace: %.200s", call)
				}
				steps = append(steps, step{"write", at, data, fds[fd]})
			}
		case "ftruncate":
			if fds[fd] != "" {
				size, _ := strconv.ParseInt(rest, 10, 64)
				steps = append(steps, step{"size", size, nil, fds[fd]})
			}
		case "fsync", "fdatasync":
			if file := fds[strings.TrimSpace(args)]; file != "" {
				steps = append(steps, step{"sync", int64(began[pid]), nil, file})
			}
		case "write":
			if fd == "1" {
				steps = append(steps, step{"say", 0, bytesOf(t, rest), ""})
			}
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}

// bytesOf reads strace's first quoted string, all of it in hexadecimal.
func bytesOf(t *testing.T, s string) []byte {
	t.Helper()
	_, s, ok := strings.Cut(s, `"`)
	s, _, ok2 := strings.Cut(s, `"`)
	b, err := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	if !ok || !ok2 || err != nil {
		t.Fatalf("strace string: %.80q %v", s, err)
	}
	return b
}

func stringOf(t *testing.T, s string) string { return string(bytesOf(t, s)) }

// TestPowerLossKeepsWhatWasAcknowledged rebuilds the file as a power cut at each moment may leave it: with all that was
// synced before, and any part of what was not. Each must open and hold what had been acknowledged until then.
func TestPowerLossKeepsWhatWasAcknowledged(t *testing.T) {
	need.Programs(t, "strace")
	dir := t.TempDir()
	path, log := filepath.Join(dir, "store.db"), filepath.Join(dir, "trace")
	cmd := exec.Command("strace", "-f", "--seccomp-bpf", "-xx", "-s", "10000000", "-o", log, "-e", "trace=openat,close,pwrite64,write,fdatasync,fsync,ftruncate", os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path, "BANMESH_STORE_ROUNDS=12")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps := trace(t, f, path)
	count := map[string]int{}
	for _, s := range steps {
		count[s.kind]++
	}
	if count["write"] < 50 || count["sync"] < 20 || count["say"] < 60 {
		t.Fatalf("the trace misses something: %v", count)
	}
	t.Logf("%v", count)

	rnd := rand.New(rand.NewPCG(need.Seed(t), 0))
	made := slices.IndexFunc(steps, func(s step) bool { return s.kind == "say" }) // before it speaks, nothing is promised
	image := filepath.Join(dir, "image")
	promised := promise{}
	for cut := 0; cut <= len(steps); cut++ {
		if cut > 0 && steps[cut-1].kind == "say" {
			for line := range strings.Lines(string(steps[cut-1].data)) {
				word, a, _ := strings.Cut(strings.TrimSpace(line), " ")
				promised[a] = word
			}
		}
		if cut < made {
			continue
		}
		if cut < len(steps) && steps[cut].kind == "write" && rnd.IntN(4) > 0 {
			continue // inside a transaction a part of the moments will do
		}
		for variant := range 3 {
			if err := os.WriteFile(image, afterPowerLoss(nil, steps[:cut], variant, rnd), 0o600); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("cut %d of %d, variant %d", cut, len(steps), variant)
			s, err := Open(Config{Path: image, Origin: "a"})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			promised.check(t, s, what)
			if doubt := s.Doubt(); doubt != "" {
				t.Errorf("%s: nothing is damaged, and it says %s", what, doubt)
			}
			s.Close()
			if t.Failed() {
				return
			}
		}
	}
}

// afterPowerLoss builds the file from what it was, what was synced and, of what was not: nothing (variant 0), all of it
// (1), or some of it (2).
func afterPowerLoss(was []byte, steps []step, variant int, rnd *rand.Rand) []byte {
	synced := 0
	for _, s := range steps {
		if s.kind == "sync" {
			synced = max(synced, int(s.at))
		}
	}
	size, buf := int64(len(was)), bytes.Clone(was)
	grow := func(n int64) {
		if n > int64(len(buf)) {
			buf = append(buf, make([]byte, n-int64(len(buf)))...)
		}
		size = max(size, n)
	}
	for i, s := range steps {
		if i >= synced && (variant == 0 || variant == 2 && rnd.IntN(2) == 0) && s.kind != "size" {
			continue
		}
		switch s.kind {
		case "write":
			grow(s.at + int64(len(s.data)))
			copy(buf[s.at:], s.data)
		case "size":
			grow(s.at)
		}
	}
	return bytes.Clone(buf[:size])
}

// TestKilledAgentKeepsWhatWasAcknowledged kills the child with SIGKILL at random moments, again and again on one file.
func TestKilledAgentKeepsWhatWasAcknowledged(t *testing.T) {
	need.Long(t)
	path := storePath(t)
	promised := promise{}
	rnd := rand.New(rand.NewPCG(need.Seed(t), 0))
	rounds := 0
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline) || rounds < 5; rounds++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+path, "BANMESH_STORE_BASE="+strconv.Itoa(rounds*1000))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := rnd.IntN(200) + 1; lines.Scan(); n-- {
			word, a, _ := strings.Cut(lines.Text(), " ")
			promised[a] = word
			if n == 0 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatalf("child: %s", stderr.String())
		}
		s, err := Open(Config{Path: path, Origin: "a"})
		if err != nil {
			t.Fatalf("round %d: %v", rounds, err)
		}
		promised.check(t, s, fmt.Sprintf("round %d", rounds))
		s.Close()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rounds", rounds)
}
