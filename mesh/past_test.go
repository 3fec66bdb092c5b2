package mesh

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
)

func past(t *testing.T, a *Agent, q control.HistoryQuery) []control.Past {
	t.Helper()
	h, err := a.History(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return h.Events
}

func TestHistoryTellsWhatBecameOfABan(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	p := netip.MustParsePrefix("203.0.113.7/32")
	until := control.UntilAt(time.Now().Add(time.Hour))
	call := control.BanCall{Prefixes: []netip.Prefix{p}, Jail: "sshd", Until: until, Failures: 5, Reason: "tries"}
	if _, err := a.Ban(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	call.Until += 1000 * 3600
	if _, err := a.Ban(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Unban(t.Context(), control.UnbanCall{Prefixes: []netip.Prefix{p}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Allow(t.Context(), control.AllowCall{Prefixes: []netip.Prefix{p}, Until: until, Comment: "office"}); err != nil {
		t.Fatal(err)
	}
	q := control.HistoryQuery{Prefix: netip.MustParsePrefix("203.0.113.0/24")}
	var kinds []string
	eventually(t, "the history tells of all four", func() bool {
		kinds = nil
		for _, e := range past(t, a, q) {
			kinds = append(kinds, e.Event)
		}
		return len(kinds) == 4
	})
	if want := []string{"allow", "lift", "extend", "ban"}; !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	events := past(t, a, q)
	if b := events[3]; b.Origin != "alone" || b.Jail != "sshd" || b.Failures != 5 || b.Reason != "tries" || b.Until == nil || *b.Until != until || b.Time == 0 || b.Start == 0 {
		t.Errorf("the ban: %+v", b)
	}
	if events[1].By != "alone" || events[0].Reason != "office" {
		t.Errorf("the lift %+v, the allow %+v", events[1], events[0])
	}
	s, err := a.Stats(t.Context(), control.StatsQuery{})
	if err != nil || s.Bans != (control.Share{Past: 1, Total: 1}) || s.Lifts != 1 || len(s.Jails) != 1 || s.Jails[0].Name != "sshd" {
		t.Errorf("stats %+v, error %v", s, err)
	}
}

func TestHistoryOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(c *config.Config) { c.DataDir = dir }
	a, stop := startedBy(t, time.Now, "alone", in)
	ban(t, a, "203.0.113.7/32")
	if _, err := a.Unban(t.Context(), control.UnbanCall{All: true, Confirmed: true}); err != nil {
		t.Fatal(err)
	}
	stop()
	a = started(t, "alone", in)
	events := past(t, a, control.HistoryQuery{})
	if len(events) != 2 || events[0].Event != "lift" || events[1].Event != "ban" {
		t.Errorf("after a restart: %+v", events)
	}
}

func TestWithoutEntriesNothingIsRemembered(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", func(c *config.Config) { c.History.MaxEntries = 0 })
	if _, err := a.History(t.Context(), control.HistoryQuery{}); err == nil {
		t.Error("no error says that nothing is remembered")
	}
}

func TestReloadChangesTheBoundsOfTheHistory(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	ban(t, a, "203.0.113.7/32", "203.0.113.8/32", "203.0.113.9/32")
	eventually(t, "the history tells of all", func() bool { return len(past(t, a, control.HistoryQuery{})) == 3 })
	cfg := a.cfg
	cfg.History.MaxEntries, cfg.Geo.ASNDB = 2, "/nowhere/asn.mmdb"
	waiting, err := a.Reload(t.Context(), loaded(cfg))
	if err != nil || len(waiting) > 0 {
		t.Errorf("%v wait for a restart, error %v", waiting, err)
	}
	if n := len(past(t, a, control.HistoryQuery{})); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
	if s, err := a.Stats(t.Context(), control.StatsQuery{}); err != nil || s.Unplaced == "" {
		t.Errorf("stats does not say that the database is missing: %+v, error %v", s, err)
	}
}

func TestStatsNameSystemsAndCountries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	asn, country := filepath.Join(dir, "asn.mmdb"), filepath.Join(dir, "country.mmdb")
	writeMMDB(t, asn, map[string]any{
		"203.0.113.0/25": mmdbMap{"autonomous_system_number": uint32(64500), "autonomous_system_organization": "Example\x1b Net"},
		"198.51.0.0/16":  mmdbMap{"autonomous_system_number": uint32(64501)},
	})
	writeMMDB(t, country, map[string]any{"203.0.113.0/24": mmdbMap{"country": mmdbMap{"iso_code": "DE"}}})
	a := started(t, "alone", func(c *config.Config) { c.Geo = config.Geo{ASNDB: asn, CountryDB: country} })
	ban(t, a, "203.0.113.7/32", "203.0.113.8/32", "198.51.100.1/32", "192.0.2.1/32")
	s, err := a.Stats(t.Context(), control.StatsQuery{})
	if err != nil || s.Unplaced != "" {
		t.Fatal(err, s.Unplaced)
	}
	if len(s.ASNs) != 2 || s.ASNs[0].ASN != 64500 || s.ASNs[0].Name != "Example Net" || s.ASNs[0].Live != 2 || s.ASNs[1].ASN != 64501 {
		t.Errorf("systems %+v", s.ASNs)
	}
	if len(s.Countries) != 1 || s.Countries[0].Name != "DE" || s.Countries[0].Total != 2 {
		t.Errorf("countries %+v", s.Countries)
	}
	if n := s.Networks[0]; n.Prefix != "203.0.113.0/24" || n.ASN != 64500 || n.Country != "DE" {
		t.Errorf("the first network %+v", n)
	}
	for of, want := range map[string]string{"203.0.113.7/32": "AS64500 Example Net, DE", "203.0.113.200/32": "DE", "198.51.100.0/24": "AS64501", "192.0.2.1/32": ""} {
		if w, err := a.Why(t.Context(), netip.MustParsePrefix(of)); err != nil || w.Place.Words() != want {
			t.Errorf("%s belongs to %q, error %v, want %q", of, w.Place.Words(), err, want)
		}
	}
}

type mmdbMap map[string]any

// writeMMDB writes a file in MaxMind's format, version 2 (https://maxmind.github.io/MaxMind-DB/), of IPv4 prefixes that do not overlap.
func writeMMDB(t *testing.T, path string, records map[string]any) {
	t.Helper()
	type node [2]int // of other nodes; below 0 is data, 0 is nothing
	nodes := []node{{}}
	var data []byte
	for text, value := range records {
		p := netip.MustParsePrefix(text)
		at, a := 0, p.Addr().As4()
		for i := range p.Bits() {
			bit := int(a[i/8] >> (7 - i%8) & 1)
			if i == p.Bits()-1 {
				nodes[at][bit] = -1 - len(data)
			} else {
				if nodes[at][bit] == 0 {
					nodes = append(nodes, node{})
					nodes[at][bit] = len(nodes) - 1
				}
				at = nodes[at][bit]
			}
		}
		data = appendMMDB(data, value)
	}
	var out []byte
	for _, n := range nodes {
		for _, to := range n {
			switch {
			case to == 0:
				to = len(nodes)
			case to < 0:
				to = len(nodes) + 16 + (-1 - to)
			}
			out = append(out, byte(to>>16), byte(to>>8), byte(to))
		}
	}
	out = append(append(out, make([]byte, 16)...), data...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	out = appendMMDB(out, mmdbMap{
		"binary_format_major_version": uint16(2), "binary_format_minor_version": uint16(0), "build_epoch": uint64(1), "database_type": "Test",
		"description": mmdbMap{"en": "a test"}, "ip_version": uint16(4), "languages": []string{"en"}, "node_count": uint32(len(nodes)), "record_size": uint16(24),
	})
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendMMDB(b []byte, v any) []byte {
	head := func(kind, size int) {
		first, more := 0, []byte(nil)
		if kind > 7 {
			first, more = 0, append(more, byte(kind-7))
		} else {
			first = kind << 5
		}
		if size < 29 {
			b = append(append(b, byte(first|size)), more...)
		} else {
			b = append(append(append(b, byte(first|29)), more...), byte(size-29))
		}
	}
	switch v := v.(type) {
	case string:
		head(2, len(v))
		b = append(b, v...)
	case uint16:
		head(5, 2)
		b = binary.BigEndian.AppendUint16(b, v)
	case uint32:
		head(6, 4)
		b = binary.BigEndian.AppendUint32(b, v)
	case uint64:
		head(9, 8)
		b = binary.BigEndian.AppendUint64(b, v)
	case []string:
		head(11, len(v))
		for _, s := range v {
			b = appendMMDB(b, s)
		}
	case mmdbMap:
		head(7, len(v))
		for k, value := range v {
			b = appendMMDB(appendMMDB(b, k), value)
		}
	}
	return b
}
