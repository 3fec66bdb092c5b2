package demo

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
)

// console is an output that can be read while it is written.
type console struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // of one
}

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return c.text.Write(b)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// await returns what the first group of a pattern matches, as soon as it does.
func (c *console) await(ctx context.Context, t *testing.T, pattern string) string {
	t.Helper()
	find := regexp.MustCompile(pattern)
	for {
		text := c.String()
		if m := find.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			t.Fatalf("waited for %s in:\n%s", pattern, text)
		}
	}
}

// TestTheStayingDemoLives: its page is there at the address that it prints, shows
// bans that come after the play, and all ends when it is told to.
func TestTheStayingDemoLives(t *testing.T) {
	need.Long(t)
	t.Parallel()
	limit, done := context.WithTimeout(t.Context(), 2*time.Minute)
	defer done()
	ctx, stop := context.WithCancel(limit)
	defer stop()
	out := &console{more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: out, Version: "test", Stay: true}) }()

	early := out.await(limit, t, `page +(http://127\.0\.0\.1:\d+/)`)
	url := out.await(limit, t, `in a browser:\n +(http://\S+/)\n`)
	if url != early {
		t.Errorf("the page is at %s after it was at %s", url, early)
	}
	newest := regexp.MustCompile(`<tr data-key="(\S+ router\d \S+)"`)
	shown := func() []string {
		var out []string
		for _, m := range newest.FindAllStringSubmatch(fetch(limit, t, url), -1) {
			out = append(out, m[1])
		}
		return out
	}
	before := shown()
	for slices.Equal(shown(), before) {
		select {
		case err := <-ended:
			t.Fatalf("the demo has ended: %v", err)
		case <-limit.Done():
			t.Fatalf("the newest bans are still %v", before)
		case <-time.After(100 * time.Millisecond):
		}
	}
	out.await(limit, t, `(unban 203\.0\.113\.99)\n`)
	fits(t, out.String())
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the demo has not ended 20 s after it was told to")
	}
}

func fetch(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, reply.Status, err)
	}
	return string(b)
}
