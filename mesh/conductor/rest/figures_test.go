package rest_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/conductor"
)

// largeTenant is the answer for a tenant of n addresses.
func largeTenant(n int) string {
	var b strings.Builder
	b.WriteString(`{"name":"blacklist-fail2ban","description":"Blacklist maintained by fail2ban","member":[{"neighborhood":"internet","address":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q", address(i))
	}
	b.WriteString(`]}]}`)
	return b.String()
}

func address(i int) string {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)}), 32).String()
}

func large(t *testing.T, n int) *conductor.Conductor {
	body := largeTenant(n)
	return fake(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasSuffix(req.URL.Path, "/login"):
			fmt.Fprint(w, `{"token":"t"}`)
		case strings.HasSuffix(req.URL.Path, "/config/version"):
			fmt.Fprint(w, `{"isDirty":false,"release":"5.6"}`)
		case strings.HasSuffix(req.URL.Path, "/tenant/blacklist-fail2ban"):
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			fmt.Fprint(w, body)
		case strings.HasSuffix(req.URL.Path, "/authority"):
			fmt.Fprintf(w, `{"tenant":[%s]}`, body)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
}

// The time is that of the whole call, the server's share included.
func TestFiguresReadOf100000Addresses(t *testing.T) {
	r := large(t, 100_000)
	if _, err := r.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	got, err := r.Read(t.Context())
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err != nil || len(got.Addresses) != 100_000 {
		t.Fatalf("%d addresses, %v", len(got.Addresses), err)
	}
	allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("read in %v, %d MB allocated", took, allocated)
	if took > time.Second {
		t.Errorf("read in %v, want 1s", took)
	}
	if allocated > 100 {
		t.Errorf("%d MB allocated, want 100", allocated)
	}
}

func TestFiguresBeginAt100000Addresses(t *testing.T) {
	r := large(t, 100_000)
	start := time.Now()
	e, err := r.Begin(t.Context(), conductor.Permit{})
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	t.Logf("begun in %v", took)
	if took > 2*time.Second {
		t.Errorf("begun in %v, want 2s", took)
	}
}

func BenchmarkRead100000(b *testing.B) {
	c := serve(b)
	r := c.client()
	var add []netip.Prefix
	for i := range 100_000 {
		add = append(add, netip.MustParsePrefix(address(i)))
	}
	if err := change(b.Context(), r, conductor.Permit{}, add, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
