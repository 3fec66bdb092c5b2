package gossip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// send has a host send so much a second, for so long, and returns what is told of it then.
func (f *floods) send(d time.Duration, from string, second traffic) string {
	for range int(d / (100 * time.Millisecond)) {
		time.Sleep(100 * time.Millisecond)
		f.note(from, traffic{second.packets / 10, second.useless / 10, second.streams / 10}, time.Now())
	}
	m := &Mesh{wire: &wire{}}
	m.wire.floods.told = f.told
	return strings.Join(m.Floods(), "\n")
}

func TestWhoFloodsIsNamedWithinTenSeconds(t *testing.T) {
	at := func(host netip.Prefix) []string {
		if host == netip.MustParsePrefix("192.0.2.2/32") {
			return []string{"bob"}
		}
		return nil
	}
	for name, c := range map[string]struct {
		from   string
		second traffic
		want   []string // in what is told; nil for nothing
	}{
		"packets of nobody":             {"192.0.2.9:7", traffic{packets: 2000}, []string{"192.0.2.9, where no member lives", "2000 gossip packets a second"}},
		"a member's packets":            {"192.0.2.2:7", traffic{packets: 20000}, []string{"192.0.2.2, the address of bob", "20000 gossip packets a second"}},
		"packets that none sends":       {"192.0.2.2:7", traffic{packets: 500, useless: 500}, []string{"bob", "500 gossip packets a second that no member sends"}},
		"streams":                       {"[2001:db8::9]:7", traffic{streams: 100}, []string{"2001:db8::/64", "100 gossip streams a second"}},
		"a storm of bans":               {"192.0.2.2:7", traffic{packets: 6000, streams: 10}, nil},
		"a member with another key":     {"192.0.2.9:7", traffic{packets: 50, useless: 50, streams: 10}, nil},
		"a mesh that starts, strangers": {"192.0.2.9:7", traffic{packets: 500, streams: 40}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &floods{rate: 6000, at: at}
			f.send(4*time.Second, "192.0.2.2:7", traffic{packets: 10})
			got := f.send(10*time.Second, c.from, c.second)
			if c.want == nil && got != "" {
				t.Errorf("%s: %q", name, got)
			}
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%s: %q does not say %q", name, got, w)
				}
			}
			if got = f.send(floodFor+10*time.Second, "192.0.2.2:7", traffic{packets: 10}); got != "" {
				t.Errorf("%s: after it is over %q", name, got)
			}
		})
	}
}

func TestFloodsOfManyAddressesAreBoundedAndTold(t *testing.T) {
	f := &floods{rate: 6000, at: func(netip.Prefix) []string { return nil }}
	now := time.Now()
	for i := range 100_000 {
		f.note(fmt.Sprintf("10.%d.%d.%d:7", i>>16, i>>8&255, i&255), traffic{packets: 1}, now.Add(time.Duration(i)*100*time.Microsecond))
		if len(f.hosts) > maxFloodHosts || len(f.told) > maxFloods {
			t.Fatalf("%d hosts are counted and %d told of", len(f.hosts), len(f.told))
		}
	}
	if text := f.told[netip.Prefix{}].text; !strings.Contains(text, "many addresses") {
		t.Errorf("told of them: %q", text)
	}
}

func BenchmarkFloodsNote(b *testing.B) {
	f := &floods{rate: 6000, at: func(netip.Prefix) []string { return nil }}
	now := time.Now()
	for range b.N {
		f.note("192.0.2.2:7946", traffic{packets: 1}, now)
	}
}
