package web

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

// space is a network namespace of its own, with its own tables and sets.
func space(t *testing.T) (run func(stdin, name string, args ...string) string) {
	need.Root(t)
	need.Programs(t, "ip")
	name := fmt.Sprintf("banmesh-feed-%d", os.Getpid())
	run = func(stdin, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("", "ip", "netns", "add", name)
	t.Cleanup(func() { run("", "ip", "netns", "del", name) })
	inside := run
	return func(stdin, program string, args ...string) string {
		t.Helper()
		return inside(stdin, "ip", append([]string{"netns", "exec", name, program}, args...)...)
	}
}

func TestFeedNftIsLoadedByNft(t *testing.T) {
	need.Programs(t, "nft")
	run := space(t)
	set := mixed()
	// A network with an address in it is what interval sets refuse.
	set.bans = append(set.bans, ban("198.51.100.0/24", t0.Add(time.Hour)))
	clock := newClock()
	h := newServer(t, Config{Set: set, Now: clock.now}).handler(loopback)
	load := func() string {
		t.Helper()
		a := ask(t, h, "GET", "/feed/nft")
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		file := filepath.Join(t.TempDir(), "feed.nft")
		if err := os.WriteFile(file, []byte(a.body), 0o600); err != nil {
			t.Fatal(err)
		}
		run("", "nft", "-f", file)
		return run("", "nft", "list", "table", "inet", "banmesh_feed")
	}
	got := load()
	for _, want := range []string{"10.0.0.9", "192.0.2.0", "192.0.2.2/31", "198.51.100.0/24", "2001:db8::/48", "2001:db8:1::1"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not loaded:\n%s", want, got)
		}
	}
	// What is gone goes, and nothing is there twice.
	set.hold("203.0.113.7/32")
	clock.pass(lookAgain)
	h = newServer(t, Config{Set: set, Now: clock.now}).handler(loopback)
	got = load()
	if !strings.Contains(got, "elements = { 203.0.113.7 }") || strings.Contains(got, "2001:") || strings.Count(got, "drop") != 2 {
		t.Errorf("after a change:\n%s", got)
	}
}

func TestFeedIPSetIsRestoredByIPSet(t *testing.T) {
	need.Programs(t, "ipset")
	run := space(t)
	load := func(set *fakeSet) string {
		t.Helper()
		a := ask(t, newServer(t, Config{Set: set}).handler(loopback), "GET", "/feed/ipset")
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		run(a.body, "ipset", "-exist", "restore")
		return run("", "ipset", "save")
	}
	got := load(mixed())
	for _, want := range []string{"add banmesh4 10.0.0.9\n", "add banmesh4 192.0.2.2/31\n", "add banmesh6 2001:db8::/48\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not loaded:\n%s", want, got)
		}
	}
	// More than a set holds by default, then one.
	many := &fakeSet{}
	for i := range 70_000 {
		many.bans = append(many.bans, ban(fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255), t0.Add(time.Hour)))
	}
	if got = load(many); strings.Count(got, "\nadd banmesh4 ") != 70_000 || strings.Contains(got, "add banmesh6") {
		t.Errorf("of 70,000 there are %d", strings.Count(got, "\nadd banmesh4 "))
	}
	one := &fakeSet{}
	one.hold("203.0.113.7/32")
	if got = load(one); strings.Count(got, "add ") != 1 || strings.Contains(got, "-new") {
		t.Errorf("after a change:\n%s", got)
	}
}

// RouterOS gets every address of one list, whatever changes while it reads, and
// switches with the last page alone.
func TestFeedMikroTikInPages(t *testing.T) {
	set, clock := &fakeSet{}, newClock()
	for i := range 2*mikrotikPage + 1 {
		set.bans = append(set.bans, ban(fmt.Sprintf("10.0.%d.%d/32", i>>8, i&255), t0.Add(time.Hour)))
	}
	set.bans = append(set.bans, ban("2001:db8::/48", time.Time{}))
	h := newServer(t, Config{Set: set, Now: clock.now}).handler(loopback)
	next := regexp.MustCompile(`:set banmeshNext "([^"]*)"`)
	var read []string
	query, n := "page=1", 0
	for query != "" {
		a := ask(t, h, "GET", "/feed/mikrotik?"+query)
		if a.status != 200 || len(a.body) > 120<<10 {
			t.Fatalf("%s: %d, %d bytes", query, a.status, len(a.body))
		}
		n++
		set.hold("203.0.113.7/32") // meanwhile
		clock.pass(2 * time.Second)
		for _, m := range regexp.MustCompile(`add list=\$new address=(\S+) timeout=1d}`).FindAllStringSubmatch(a.body, -1) {
			read = append(read, m[1])
		}
		last := strings.Contains(a.body, "remove [find list=$old]")
		query = next.FindStringSubmatch(a.body)[1]
		if first := strings.Contains(a.body, "remove [find list=$new]"); first != (n == 1) || last != (query == "") {
			t.Errorf("page %d: empties the new list %v, the old one %v", n, first, last)
		}
		if v6 := strings.Contains(a.body, "/ipv6 firewall address-list add list=$new address=2001:db8::/48"); v6 != (query == "") {
			t.Errorf("page %d: IPv6 %v", n, v6)
		}
	}
	if n != 3 || len(read) != 2*mikrotikPage+2 || read[0] != "10.0.0.0" {
		t.Errorf("%d pages with %d addresses", n, len(read))
	}
	for query, want := range map[string]int{
		"": 400, "page=0": 400, "page=x": 400, "page=1&familiy=4": 400, "page=2": 410, "page=2&of=x": 410, "page=1&family=6": 200,
	} {
		if a := ask(t, h, "GET", "/feed/mikrotik?"+query); a.status != want {
			t.Errorf("%q: %d, want %d", query, a.status, want)
		}
	}
}

// Several devices read at once, of each family, while bans come all the time: each
// of them comes to its last page.
func TestFeedMikroTikForManyReaders(t *testing.T) {
	set, clock := &fakeSet{}, newClock()
	for i := range 3 * mikrotikPage {
		set.bans = append(set.bans, ban(fmt.Sprintf("10.0.%d.%d/32", i>>8, i&255), t0.Add(time.Hour)))
	}
	s := newServer(t, Config{Set: set, Now: clock.now})
	h := s.handler(loopback)
	next := regexp.MustCompile(`:set banmeshNext "([^"]*)"`)
	begin := []string{"page=1", "page=1", "page=1", "page=1&family=4", "page=1&family=4"}
	at := make([]string, len(begin))
	done := make([]int, len(begin))
	ages := make(map[string]bool)
	for turn := range 20 {
		reader := turn % len(begin)
		if at[reader] == "" {
			at[reader] = begin[reader]
		}
		a := ask(t, h, "GET", "/feed/mikrotik?"+at[reader])
		if a.status != 200 {
			t.Fatalf("reader %d, %s: %d %s", reader, at[reader], a.status, a.body)
		}
		if at[reader] = next.FindStringSubmatch(a.body)[1]; at[reader] == "" {
			done[reader]++
		}
		if _, of, ok := strings.Cut(at[reader], "of="); ok {
			ages[of] = true
		}
		set.bans = append(set.bans, ban(fmt.Sprintf("203.0.113.%d/32", turn), t0.Add(time.Hour)))
		s.Changed(someBans)
		clock.pass(10 * time.Second)
	}
	for reader, n := range done {
		if n == 0 {
			t.Errorf("reader %d never comes to its last page", reader)
		}
	}
	if len(ages) < 3 {
		t.Errorf("in 200 s %d lists are read: nobody sees a change", len(ages))
	}
}
