package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestFiguresHTTP: an agent with 100,000 bans, asked over its listener: a scrape,
// a feed of which a ban has just changed, and one that has not changed.
func TestFiguresHTTP(t *testing.T) {
	const n = 100_000
	addr := freeAddr(t)
	a := newAgent(t, "router1", settings{extra: fmt.Sprintf("log: {level: error}\nhttp: {listen: %q}\n", addr)}).start()
	a.must("import", listFile(t, n), "--for", "1d")
	base := "http://" + addr

	quietest(t, "scrape of /metrics", 20*time.Millisecond, func(int) (took []time.Duration) {
		for range 15 {
			began := time.Now()
			if f := fetch(t, "GET", base+"/metrics", "Accept-Encoding", "gzip"); f.status != 200 {
				t.Fatalf("%d %s", f.status, f.body)
			}
			took = append(took, time.Since(began))
		}
		return took
	})
	bans := 0
	for _, feed := range []string{"/feed/plain", "/feed/json", "/feed/plain?aggregate=1"} {
		etag := ""
		quietest(t, "first "+feed, 200*time.Millisecond, func(int) (took []time.Duration) {
			for range 3 {
				bans++
				prefix := fmt.Sprintf("203.0.113.%d", bans)
				a.must("ban", prefix, "--for", "1h")
				eventually(t, 10*time.Second, "the feed to show the ban", func() bool {
					began := time.Now()
					f := fetch(t, "GET", base+feed, "Accept-Encoding", "identity")
					if f.header.Get("ETag") == etag {
						return false // up to a second old
					}
					etag = f.header.Get("ETag")
					took = append(took, time.Since(began))
					return strings.Contains(f.body, prefix) || strings.Contains(feed, "aggregate")
				})
			}
			return took
		})
		quietest(t, "again "+feed, 5*time.Millisecond, func(int) (took []time.Duration) {
			for range 15 {
				began := time.Now()
				if f := fetch(t, "GET", base+feed, "Accept-Encoding", "identity", "If-None-Match", etag); f.status != 304 {
					t.Fatalf("%d, want 304", f.status)
				}
				took = append(took, time.Since(began))
			}
			return took
		})
	}
}
