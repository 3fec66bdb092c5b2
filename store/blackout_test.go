package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
)

// meshEnv has the child of the power tests be three stores in a directory that tell each other what they hold, instead of
// one store in a file.
const meshEnv = "BANMESH_STORE_MESH"

var meshNames = []string{"a", "b", "c"}

// meshStores is the work of that child: each store is written to by one caller and hears of the others both as they are
// told at once, of which half is lost, and by comparing.
type meshStores struct {
	stores []*Store
	say    func(word string, p netip.Prefix)

	mu    sync.Mutex
	acked []netip.Prefix // banned by any, not yet lifted
}

func meshChild(dir string) error {
	rounds, _ := strconv.Atoi(os.Getenv("BANMESH_STORE_ROUNDS"))
	base, _ := strconv.Atoi(os.Getenv("BANMESH_STORE_BASE"))
	m := &meshStores{}
	for _, name := range meshNames {
		s, err := Open(Config{Path: filepath.Join(dir, name+".db"), Origin: name})
		if err != nil {
			return err
		}
		defer s.Close()
		m.stores = append(m.stores, s)
	}
	var mu sync.Mutex
	m.say = func(word string, p netip.Prefix) {
		mu.Lock()
		defer mu.Unlock()
		os.Stdout.WriteString(word + " " + p.Addr().String() + "\n")
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for i := range m.stores {
		writers.Go(func() { m.write(i, rounds, base+i*100000, rand.New(rand.NewPCG(uint64(base), uint64(i)))) })
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
					m.pull(i, (i+1)%len(m.stores))
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	return nil
}

// write bans, prolongs and lifts at one store. It speaks before and after each call.
func (m *meshStores) write(i, rounds, base int, rnd *rand.Rand) {
	s, ctx := m.stores[i], context.Background()
	until := At(time.Now().Add(24 * time.Hour))
	for n := range rounds {
		p := addr(base + n)
		m.say("start", p)
		start := At(time.Now())
		must(s.Ban(ctx, []BanRequest{{Prefix: p, Start: start, Until: until}}))
		m.say("ack", p)
		m.mu.Lock()
		m.acked = append(m.acked, p)
		m.mu.Unlock()
		m.push(i, rnd)
		if n%4 == 1 { // the file deletes what this replaces; one that was lifted meanwhile stays lifted
			must(s.Ban(ctx, []BanRequest{{Prefix: p, Start: start, Until: until + Millis(time.Hour.Milliseconds())}}))
			m.push(i, rnd)
		}
		if n%3 == 2 {
			m.lift(s, rnd)
			m.push(i, rnd)
		}
	}
}

// lift takes any ban, and says lifted where this store has seen it.
func (m *meshStores) lift(s *Store, rnd *rand.Rand) {
	m.mu.Lock()
	at := rnd.IntN(len(m.acked))
	p := m.acked[at]
	m.acked = slices.Delete(m.acked, at, at+1)
	m.mu.Unlock()
	m.say("lift", p)
	out := must(s.Lift(context.Background(), LiftRequest{Prefixes: []netip.Prefix{p}}))
	if out[0].Offences == 1 {
		m.say("lifted", p)
	} else {
		m.say("ack", p)
	}
}

// push tells one of the others what was written last.
func (m *meshStores) push(i int, rnd *rand.Rand) {
	if rnd.IntN(2) == 0 {
		return
	}
	s := m.stores[i]
	if chunk, _ := s.Since(s.Head().Seq-1, 1200); chunk != nil {
		must(m.stores[(i+1+rnd.IntN(2))%len(m.stores)].Merge(bytes.Clone(chunk)))
	}
}

// pull brings to one store what another has more.
func (m *meshStores) pull(to, from int) {
	for chunk, err := range m.stores[from].Deltas(m.stores[to].Digest(Minute(time.Now())), 16<<10) {
		must(m.stores[to].Merge(bytes.Clone(must(chunk, err))))
	}
}

// must is for the child, which has no test to fail: its end is the failure.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// blackout is three files and what was acknowledged by the stores on them.
type blackout struct {
	t        *testing.T
	rnd      *rand.Rand
	dir      string
	files    map[string][]byte
	promised promise
}

// TestPowerLossAmongThreeStores cuts the power of one or of all of three stores that merge from each other, at 15
// moments. Whatever the cut leaves of what was not synced, they agree afterwards, and keep what was acknowledged.
func TestPowerLossAmongThreeStores(t *testing.T) {
	blackouts(t, 5, 3)
}

// TestSoakPowerLoss is the same a thousand times.
func TestSoakPowerLoss(t *testing.T) {
	need.Soak(t)
	blackouts(t, 100, 10)
}

func blackouts(t *testing.T, lives, cuts int) {
	need.Programs(t, "strace")
	b := &blackout{t: t, rnd: rand.New(rand.NewPCG(need.Seed(t), 0)), dir: t.TempDir(), files: map[string][]byte{}, promised: promise{}}
	began := time.Now()
	for life := range lives {
		b.live(life, cuts)
		if t.Failed() {
			return
		}
	}
	bans, lifted := 0, 0
	for _, word := range b.promised {
		switch word {
		case "ack":
			bans++
		case "lifted":
			lifted++
		}
	}
	t.Logf("%d power cuts in %v; in the end %d bans and %d lifts that must hold", lives*cuts, time.Since(began).Round(time.Second), bans, lifted)
}

// live lets the three run once, cuts the power at some moments of that, each for itself, and goes on from the last.
func (b *blackout) live(life, cuts int) {
	t := b.t
	t.Helper()
	log := filepath.Join(b.dir, "trace")
	var paths []string
	for _, name := range meshNames {
		path := filepath.Join(b.dir, name+".db")
		paths = append(paths, path)
		if was := b.files[path]; was != nil {
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command("strace", "-f", "--seccomp-bpf", "-xx", "-s", "10000000", "-o", log, "-e", "trace=openat,close,pwrite64,write,fdatasync,fsync,ftruncate", os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+b.dir, meshEnv+"=1", "BANMESH_STORE_ROUNDS=12", "BANMESH_STORE_BASE="+strconv.Itoa(1000*life))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps := trace(t, f, paths...)
	first := slices.IndexFunc(steps, func(s step) bool { return s.kind == "say" })
	if first < 0 || len(steps) < 100 {
		t.Fatalf("the trace misses something: %d steps", len(steps))
	}
	moments := make([]int, cuts)
	for i := range moments {
		moments[i] = first + b.rnd.IntN(len(steps)-first+1)
	}
	slices.Sort(moments)
	for i, cut := range moments {
		promised := maps.Clone(b.promised)
		promised.hear(steps[:cut])
		after := b.cut(paths, steps[:cut], promised, fmt.Sprintf("life %d, cut at %d of %d", life, cut, len(steps)))
		if i == len(moments)-1 {
			b.files, b.promised = after, promised
		}
	}
}

// hear takes in what was said.
func (p promise) hear(steps []step) {
	for _, s := range steps {
		if s.kind == "say" {
			for line := range strings.Lines(string(s.data)) {
				word, a, _ := strings.Cut(strings.TrimSpace(line), " ")
				p[a] = word
			}
		}
	}
}

// cut opens what a power cut leaves of the three, lets them compare, and returns the files as they are then.
func (b *blackout) cut(paths []string, steps []step, promised promise, what string) map[string][]byte {
	t := b.t
	t.Helper()
	victim := b.rnd.IntN(len(paths) + 1) // the last: all of them
	var nodes []*node
	var images []string
	for i, path := range paths {
		variant := b.rnd.IntN(3)
		if victim < len(paths) && i != victim {
			variant = 1 // its power stays: the kernel writes all that it was given
		}
		what += fmt.Sprintf(", %s variant %d", meshNames[i], variant)
		image := path + ".image"
		if err := os.WriteFile(image, afterPowerLoss(b.files[path], ofFile(steps, path), variant, b.rnd), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Path: image, Origin: meshNames[i]})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		nodes = append(nodes, &node{Store: s, t: t, clock: &clock{now: time.Now()}})
		images = append(images, image)
	}
	converge(nodes...)
	after := make(map[string][]byte)
	for i, n := range nodes {
		promised.check(t, n.Store, what+": "+meshNames[i])
		if err := n.Close(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		content, err := os.ReadFile(images[i])
		if err != nil {
			t.Fatal(err)
		}
		after[paths[i]] = content
	}
	return after
}

// ofFile is what was done to one file; its syncs count in its own steps.
func ofFile(steps []step, path string) []step {
	var out []step
	mine := make([]int, len(steps)+1) // how many steps of this file come before each
	for i, s := range steps {
		mine[i] = len(out)
		if s.file == path {
			if s.kind == "sync" {
				s.at = int64(mine[s.at])
			}
			out = append(out, s)
		}
	}
	return out
}
