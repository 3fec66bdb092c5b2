package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// addr is the i-th of many distinct addresses.
func addr(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(11 + i>>24), byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

func manyBans(from, n int, now Millis) []BanRequest {
	reqs := make([]BanRequest, n)
	for i := range reqs {
		// Untils spread over a month, as jails with growing ban times give.
		until := now + hour + Millis((from+i)*7919%(30*24*3600))*second
		reqs[i] = BanRequest{Prefix: addr(from + i), Jail: "sshd", Start: now - Millis(i%3600)*second, Until: until, Failures: 5}
	}
	return reqs
}

// chunksOf returns n bans as the chunks that a peer would send.
func chunksOf(tb testing.TB, n int, now time.Time) [][]byte {
	s, err := Open(Config{Path: "memory", Origin: "source", Now: func() time.Time { return now }, openDisk: func(string) (disk, error) { return nullDisk{}, nil }})
	if err != nil {
		tb.Fatal(err)
	}
	defer s.Close()
	for i := 0; i < n; i += 10000 {
		if _, err := s.Ban(context.Background(), manyBans(i, min(10000, n-i), At(now))); err != nil {
			tb.Fatal(err)
		}
	}
	var out [][]byte
	for c, err := range s.Deltas((&digestBuilder{full: true, minute: Minute(now)}).bytes(), 256<<10) {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// digestBuilder writes the digest of one who holds nothing, or what a test makes up.
type digestBuilder struct {
	minute int64
	full   bool
	packed []byte
}

func (d *digestBuilder) bytes() []byte {
	b := appendArray([]byte{wireVersion}, 3)
	b = appendInt(b, d.minute)
	b = appendBool(b, d.full)
	return appendBin(b, d.packed)
}

// nullDisk keeps nothing.
type nullDisk struct{}

func (nullDisk) load(visitor) error            { return nil }
func (nullDisk) commit(*batch) error           { return nil }
func (nullDisk) seqs(uint32) ([]uint64, error) { return nil, nil }
func (nullDisk) close() error                  { return nil }

// BenchmarkMerge merges a million bans of one peer into a store on disk.
func BenchmarkMerge(b *testing.B) {
	const n = 1_000_000
	now := time.Now()
	chunks := chunksOf(b, n, now)
	b.ResetTimer()
	for range b.N {
		s := open(b, Config{Path: filepath.Join(b.TempDir(), "s"), Origin: "b"})
		start := time.Now()
		for _, c := range chunks {
			if _, err := s.Merge(c); err != nil {
				b.Fatal(err)
			}
		}
		merged := time.Since(start)
		b.ReportMetric(rssAnon(b)/1e3, "RssAnon-MB") // the chunks themselves included
		s.Close()
		b.ReportMetric(n/merged.Seconds(), "merged/s")
		b.ReportMetric(n/time.Since(start).Seconds(), "durable/s")
	}
}

// BenchmarkMergeInMemory is BenchmarkMerge without a disk.
func BenchmarkMergeInMemory(b *testing.B) {
	const n = 1_000_000
	chunks := chunksOf(b, n, time.Now())
	b.ResetTimer()
	for range b.N {
		s := open(b, Config{Path: "memory", Origin: "b", openDisk: func(string) (disk, error) { return nullDisk{}, nil }})
		start := time.Now()
		for _, c := range chunks {
			if _, err := s.Merge(c); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n/time.Since(start).Seconds(), "merged/s")
		s.Close()
	}
}

// BenchmarkIngest bans from one caller in calls of 10,000.
func BenchmarkIngest(b *testing.B) {
	s := open(b, Config{Path: filepath.Join(b.TempDir(), "s"), Origin: "a"})
	defer s.Close()
	now, n := At(time.Now()), 0
	b.ResetTimer()
	for range b.N {
		if _, err := s.Ban(context.Background(), manyBans(n, 10000, now)); err != nil {
			b.Fatal(err)
		}
		n += 10000
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "bans/s")
}

// BenchmarkConcurrent bans from 50 callers, one ban a call.
func BenchmarkConcurrent(b *testing.B) {
	s := open(b, Config{Path: filepath.Join(b.TempDir(), "s"), Origin: "a"})
	defer s.Close()
	now := At(time.Now())
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			for i := w; i < b.N; i += 50 {
				if _, err := s.Ban(context.Background(), manyBans(i, 1, now)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bans/s")
}

// BenchmarkReopen opens a file with a million bans and reports what they take of the heap.
func BenchmarkReopen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	s := open(b, Config{Path: path, Origin: "a"})
	for i := 0; i < 1_000_000; i += 50000 {
		if _, err := s.Ban(context.Background(), manyBans(i, 50000, At(time.Now()))); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
	info, _ := os.Stat(path)
	b.ResetTimer()
	for range b.N {
		runtime.GC()
		before := heapAlloc()
		s := open(b, Config{Path: path, Origin: "a"})
		b.StopTimer()
		runtime.GC()
		b.ReportMetric(float64(heapAlloc()-before)/1e6, "heap-MB")
		b.ReportMetric(float64(info.Size())/1e6, "file-MB")
		b.ReportMetric(rssAnon(b)/1e3, "RssAnon-MB")
		start := time.Now()
		n := 0
		for range s.Effective() {
			n++
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "effective-ms")
		start = time.Now()
		s.Digest(Minute(time.Now()) + 1)
		b.ReportMetric(float64(time.Since(start).Microseconds()), "digest-µs")
		start = time.Now()
		s.Counts()
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "counts-ms")
		s.Close()
		b.StartTimer()
	}
}

func heapAlloc() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// rssAnon is the anonymous memory of this process, in kB.
func rssAnon(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			v, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return v
		}
	}
	b.Fatal("no RssAnon")
	return 0
}

// BenchmarkDigest writes the digest of 1,000 logs of 1,000 records each.
func BenchmarkDigest(b *testing.B) {
	c := newClock()
	n := newNode(b, "me", c, nil)
	for i := range 1000 {
		var w chunkMaker
		w.id = LogID{fmt.Sprintf("router%04d", i), rand.Uint64()}
		for j := range 1000 {
			w.add(item{seq: uint64(j + 1), kind: KindBan, key: mustKey(addr(i*1000 + j)), start: c.millis(), until: c.millis() + hour, jail: "sshd"})
		}
		if _, err := n.Merge(w.bytes()); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	var d []byte
	for range b.N {
		d = n.Digest(n.minute())
	}
	b.ReportMetric(float64(len(d)), "bytes")
}

// chunkMaker writes chunks that no honest store would.
type chunkMaker struct {
	id     LogID
	ranges rangeSet
	n      int
	buf    []byte
}

func (w *chunkMaker) add(it item) {
	w.n++
	w.buf = it.append(w.buf)
	w.ranges = w.ranges.add(seqRange{it.seq, it.seq})
}

func (w *chunkMaker) bytes() []byte {
	return append(chunkHeader(nil, w.id, w.ranges, w.n), w.buf...)
}

func mustKey(p netip.Prefix) pkey {
	k, err := keyOf(p)
	if err != nil {
		panic(err)
	}
	return k
}

// BenchmarkEffective goes through a million bans. Nobody can write meanwhile.
func BenchmarkEffective(b *testing.B) {
	n := newNode(b, "one", newClock(), newMemDisk())
	for i := range 10 {
		if _, err := n.Ban(b.Context(), manyBans(100_000*i, 100_000, n.now())); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for range n.Effective() {
		}
	}
}
