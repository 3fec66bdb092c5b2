package store

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// besideAllows returns a store on disk that holds 100,000 allows of 40 members.
func besideAllows(b *testing.B) *Store {
	const members, each = 40, 2500
	s := open(b, Config{Path: filepath.Join(b.TempDir(), "s"), Origin: "a", OnChange: func(Change) {}})
	b.Cleanup(func() { s.Close() })
	now := At(time.Now())
	for m := range members {
		w := chunkMaker{id: LogID{fmt.Sprintf("router%02d", m), 1}}
		for i := range each {
			w.add(item{seq: uint64(i + 1), kind: KindAllow, key: mustKey(apart(m*each + i)), start: now, until: Never})
		}
		if _, err := s.Merge(w.bytes()); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// apart is the i-th of many addresses of which no two are neighbours.
func apart(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i%40), byte(i >> 11), byte(i >> 3), byte(i<<5 | 1)}), 32)
}

// allowOne adds one more allow to those of besideAllows.
func allowOne(b *testing.B, s *Store, i int) {
	if err := s.Allow(b.Context(), []AllowRequest{{Prefix: addr(1<<24 + 2*i)}}); err != nil {
		b.Fatal(err)
	}
}

// lookAt asks what a ban's answer and what enforces it ask.
func lookAt(s *Store, p netip.Prefix) {
	s.Exempts(p)
	for range s.EffectiveIn(p) {
	}
}

// BenchmarkBanBesideAllows bans, and looks at what came of it, while the allows change too.
func BenchmarkBanBesideAllows(b *testing.B) {
	s := besideAllows(b)
	i := 0
	for b.Loop() {
		b.StopTimer()
		allowOne(b, s, i)
		b.StartTimer()
		q := manyBans(1<<24+2*i+1, 1, At(time.Now()))
		if _, err := s.Ban(b.Context(), q); err != nil {
			b.Fatal(err)
		}
		lookAt(s, q[0].Prefix)
		i++
	}
}

// BenchmarkAllowBesideAllows allows one more address and looks at what came of it.
func BenchmarkAllowBesideAllows(b *testing.B) {
	s := besideAllows(b)
	i := 0
	for b.Loop() {
		allowOne(b, s, i)
		lookAt(s, addr(1<<24+2*i))
		i++
	}
}

// BenchmarkExemptionsWhole makes the whole set after each change.
func BenchmarkExemptionsWhole(b *testing.B) {
	s := besideAllows(b)
	i := 0
	for b.Loop() {
		b.StopTimer()
		allowOne(b, s, i)
		b.StartTimer()
		s.Exemptions()
		i++
	}
}
