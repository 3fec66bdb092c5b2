package netconfclient

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"banmesh/netconfclient/prefixset"
)

var benchKey = tenantKey{"blacklist-fail2ban", "internet"}

func manyPrefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 7}), 32)
	}
	return prefixset.Sort(out)
}

// wire is what a server with these addresses sends for a get-config, in chunks as netconfd cuts them.
func wire(ps []netip.Prefix) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><nc:rpc-reply xmlns:nc="` + nsNetconf + `" message-id="1"><nc:data>` +
		`<t128:config xmlns:t128="` + nsConfig + `"><authy:authority xmlns:authy="` + nsAuthority + `"><authy:tenant>` +
		`<authy:name>blacklist-fail2ban</authy:name><authy:description>d</authy:description><authy:member><authy:neighborhood>internet</authy:neighborhood>`)
	for _, p := range ps {
		fmt.Fprintf(&b, "\n          <authy:address>%v</authy:address>", p)
	}
	b.WriteString(`</authy:member></authy:tenant></authy:authority></t128:config></nc:data></nc:rpc-reply>`)
	var out bytes.Buffer
	for msg := b.Bytes(); len(msg) > 0; {
		n := min(1986, len(msg))
		fmt.Fprintf(&out, "\n#%d\n%s", n, msg[:n])
		msg = msg[n:]
	}
	out.WriteString("\n##\n")
	return out.Bytes()
}

func readWire(tb testing.TB, w []byte) (*tenantState, *Reply) {
	f := frameReader{r: newReader(bytes.NewReader(w)), chunked: true}
	msg, err := f.read(64 << 20)
	if err != nil {
		tb.Fatal(err)
	}
	r, errs, err := parseReply(msg, "1")
	if err != nil || len(errs) > 0 {
		tb.Fatal(err, errs)
	}
	t, err := parseTenant(r, benchKey)
	if err != nil {
		tb.Fatal(err)
	}
	return t, r
}

// cpuTime is what the process has used, its garbage collection included: a wall clock measures the neighbours as well.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPlanAndEdit is all that a change of 100 in 10,000 costs here: running read, the edit written, the candidate
// read back and compared, running read again (the same text as the candidate).
func BenchmarkPlanAndEdit(b *testing.B) {
	base := manyPrefixes(10_100)
	add, remove := base[10_000:10_050], base[:50]
	want := prefixset.Minus(prefixset.Plus(base[:10_000], add), remove)
	before, after := wire(base[:10_000]), wire(want)
	var sent int
	cpu := cpuTime(b)
	for b.Loop() {
		now, _ := readWire(b, before)
		change := tenantEdit{key: benchKey, removeOp: "remove", add: texts(prefixset.Minus(add, now.addresses))}
		for _, p := range prefixset.Both(remove, now.addresses) {
			change.remove = append(change.remove, now.texts(p)...)
		}
		out, err := change.config().bytes()
		if err != nil {
			b.Fatal(err)
		}
		sent = len(out)
		got, candidate := readWire(b, after)
		if err := mismatch(CandidateStore, prefixset.Minus(prefixset.Plus(now.addresses, add), remove), got.addresses); err != nil {
			b.Fatal(err)
		}
		f := frameReader{r: newReader(bytes.NewReader(after)), chunked: true}
		msg, err := f.read(64 << 20)
		if err != nil {
			b.Fatal(err)
		}
		running, _, err := parseReply(msg, "1")
		if err != nil || !bytes.Equal(running.Raw[running.data:], candidate.Raw[candidate.data:]) {
			b.Fatal("running is another text")
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1e6, "cpu-ms/op")
	b.ReportMetric(float64(sent), "edit-bytes")
}

func BenchmarkRead100k(b *testing.B) {
	w := wire(manyPrefixes(100_000))
	b.ReportAllocs()
	cpu := cpuTime(b)
	for b.Loop() {
		if t, _ := readWire(b, w); len(t.addresses) != 100_000 {
			b.Fatal(len(t.addresses))
		}
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1e6, "cpu-ms/op")
}

// The bound is on all that is allocated, so what is held at once is less.
func TestReading100kAddressesStaysBelow100MB(t *testing.T) {
	w := wire(manyPrefixes(100_000))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, r := readWire(t, w)
	runtime.ReadMemStats(&after) // all that was allocated, collected or not
	if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
		t.Errorf("%d MB were allocated", used>>20)
	} else {
		t.Logf("%d MB allocated in all for %d MB of XML", used>>20, len(r.Raw)>>20)
	}
	if len(got.addresses) != 100_000 {
		t.Errorf("%d addresses", len(got.addresses))
	}
}
