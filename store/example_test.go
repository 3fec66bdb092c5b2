package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"banmesh/store"
)

// Two members share a ban and its lift: each writes to its own store, and what the digest of one lacks is merged from the other.
func Example() {
	dir, err := os.MkdirTemp("", "banmesh")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	member := func(name string) *store.Store {
		s, err := store.Open(store.Config{
			Path: filepath.Join(dir, name), Origin: name, MaxDuration: 24 * time.Hour, Limits: store.DefaultLimits(),
			Now: func() time.Time { return now },
		})
		if err != nil {
			panic(err)
		}
		return s
	}
	router1, router2 := member("router1"), member("router2")
	defer router1.Close()
	defer router2.Close()

	// share gives to what from holds beyond it.
	share := func(from, to *store.Store) {
		for chunk, err := range from.Deltas(to.Digest(now.Unix()/60), 64<<10) {
			if err == nil {
				_, err = to.Merge(chunk)
			}
			if err != nil {
				panic(err)
			}
		}
	}
	show := func(s *store.Store) {
		n := 0
		for ban := range s.Effective() {
			fmt.Println(ban.Prefix, "until", ban.Until.Time().Format(time.RFC3339))
			n++
		}
		fmt.Println(n, "effective")
	}

	ctx := context.Background()
	attacker := netip.MustParsePrefix("203.0.113.5/32")
	written, err := router1.Ban(ctx, []store.BanRequest{{Prefix: attacker, Jail: "sshd", Until: store.At(now.Add(time.Hour))}})
	fmt.Println(written[0].Outcome, err)
	share(router1, router2)
	show(router2)

	if _, err := router2.Lift(ctx, store.LiftRequest{Prefixes: []netip.Prefix{attacker}}); err != nil {
		fmt.Println(err)
	}
	share(router2, router1)
	show(router1)

	// Output:
	// new <nil>
	// 203.0.113.5/32 until 2026-01-02T04:04:05Z
	// 1 effective
	// 0 effective
}
