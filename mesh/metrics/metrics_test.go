package metrics

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/mesh/enforce"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

var update = flag.Bool("update", false, "write testdata/names.golden anew")

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fixed is a source of one sample.
type fixed Sample

func (f *fixed) Sample() Sample { return Sample(*f) }

// full is a sample in which each number is another one.
func full() *fixed {
	failure := "conductor: connection refused"
	return &fixed{
		Members: control.MemberCount{Alive: 5, Failed: 2, Left: 1}, MembersInSync: 4, InSync: true, Settled: true,
		Skew: -1500 * time.Millisecond, MaxSkew: 2500 * time.Millisecond,
		Counts: store.Counts{Live: 1001, Effective: 1002, Own: 1003, Allows: 14, Records: 1005, Logs: 16, OverLimit: 17},
		Jails:  map[string]int{"sshd": 1006, "web two": 7},
		Frozen: true, Blocked: 18, Spooled: 19, Warnings: 51,
		Gossip: gossip.Stats{
			PacketsSent: 21, PacketsReceived: 22, BytesSent: 23, BytesReceived: 24, StreamsOpened: 25, StreamsTaken: 26,
			StreamBytesSent: 27, StreamBytesReceived: 28, Pushes: 29, Relays: 30, Pulls: 31, Exchanges: 32, ExchangesServed: 33,
			RecordsMerged: 34, RecordsRefused: 35, RecordsSent: 36,
			Dropped: map[string]uint64{"packet size": 37, "records: out of order": 38},
		},
		Leader: Leader{Known: true, Self: true, Eligible: true, Term: 39},
		Commit: control.CommitStatus{
			Driver: "netconf", State: "pending", Committed: 40, PendingAdd: 41, PendingRemove: 42, Foreign: 43, Held: 44,
			Commits: 45, LastCommit: control.At(t0), LastError: &failure,
		},
		Enforce: enforce.Status{Driver: "nftables", State: enforce.Frozen, Elements: 46, Batches: 47, Dropped: enforce.Drops{Packets: 48, Bytes: 480}, Failures: 49, Behind: 50, BehindFor: 1500 * time.Millisecond},
		Store:   Store{Bytes: 50, Healthy: true},
	}
}

func newMetrics(t *testing.T, c Config) *Metrics {
	t.Helper()
	if c.Source == nil {
		c.Source = full()
	}
	c.Name, c.Version, c.Commit = "router1", "1.2.3", "abcdef"
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// scrape returns the answer as Prometheus gets it.
func scrape(t *testing.T, m *Metrics) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// families are the metrics of a scrape by name.
func families(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNamesFollowTheRules(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader(scrape(t, newMetrics(t, Config{})))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "banmesh_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if _, err := newMetrics(t, Config{}).registry.Gather(); err != nil {
		t.Errorf("the registry finds its metrics inconsistent: %v", err)
	}
}

// Dashboards and alerts depend on the names.
func TestNamesStay(t *testing.T) {
	var got strings.Builder
	all := families(t, scrape(t, newMetrics(t, Config{})))
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range all {
			if strings.HasPrefix(name, "banmesh_") && !yield(name) {
				return
			}
		}
	}) {
		f := all[name]
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		fmt.Fprintf(&got, "%s{%s} %s\n    %s\n", name, strings.Join(labels, ","), strings.ToLower(f.GetType().String()), f.GetHelp())
	}
	file := filepath.Join("testdata", "names.golden")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the metrics are no more those of %s (go test -update writes it):\n%s", file, got.String())
	}
}

func TestNumbersComeFromTheSample(t *testing.T) {
	text := string(scrape(t, newMetrics(t, Config{})))
	for _, line := range []string{
		`banmesh_build_info{commit="abcdef",version="1.2.3"} 1`,
		`banmesh_members{state="alive"} 5`, `banmesh_members{state="failed"} 2`, `banmesh_members{state="left"} 1`,
		`banmesh_members_in_sync 4`, `banmesh_in_sync 1`, `banmesh_settled 1`,
		`banmesh_clock_skew_seconds -1.5`, `banmesh_members_clock_skew_max_seconds 2.5`,
		`banmesh_leader 1`, `banmesh_leader_known 1`, `banmesh_leader_eligible 1`, `banmesh_leader_term 39`,
		`banmesh_bans_live 1001`, `banmesh_bans_effective 1002`, `banmesh_bans_own 1003`, `banmesh_allows 14`,
		`banmesh_records 1005`, `banmesh_logs 16`, `banmesh_records_over_limit 17`, `banmesh_frozen 1`, `banmesh_routers_blocked 18`,
		`banmesh_records_received_total 34`, `banmesh_records_refused_total 35`, `banmesh_records_sent_total 36`,
		`banmesh_gossip_packets_total{direction="sent"} 21`, `banmesh_gossip_packets_total{direction="received"} 22`,
		`banmesh_gossip_packet_bytes_total{direction="sent"} 23`, `banmesh_gossip_packet_bytes_total{direction="received"} 24`,
		`banmesh_gossip_streams_total{side="opened"} 25`, `banmesh_gossip_streams_total{side="taken"} 26`,
		`banmesh_gossip_stream_bytes_total{direction="sent"} 27`, `banmesh_gossip_stream_bytes_total{direction="received"} 28`,
		`banmesh_gossip_frames_total{kind="push"} 29`, `banmesh_gossip_frames_total{kind="relay"} 30`, `banmesh_gossip_frames_total{kind="pull"} 31`,
		`banmesh_gossip_exchanges_total{side="asked"} 32`, `banmesh_gossip_exchanges_total{side="served"} 33`,
		`banmesh_gossip_dropped_total{reason="packet_size"} 37`, `banmesh_gossip_dropped_total{reason="records:_out_of_order"} 38`,
		`banmesh_commit_committed_addresses 40`, `banmesh_commit_pending_addresses{change="add"} 41`,
		`banmesh_commit_pending_addresses{change="remove"} 42`, `banmesh_commit_foreign_addresses 43`, `banmesh_commit_held_addresses 44`,
		`banmesh_commits_total 0`, `banmesh_jail_bans{jail="sshd"} 1006`, `banmesh_jail_bans{jail="web two"} 7`, `banmesh_commit_failing 1`, `banmesh_commit_state{state="pending"} 1`, `banmesh_commit_state{state="idle"} 0`,
		`banmesh_last_commit_timestamp_seconds 1.7723664e+09`,
		`banmesh_enforce_state{state="frozen"} 1`, `banmesh_enforce_state{state="on"} 0`, `banmesh_enforce_elements 46`,
		`banmesh_enforce_batches_total 47`, `banmesh_enforce_dropped_packets_total 48`, `banmesh_enforce_dropped_bytes_total 480`, `banmesh_enforce_behind 50`, `banmesh_enforce_behind_seconds 1.5`, `banmesh_enforce_failures_total 49`,
		`banmesh_store_file_bytes 50`, `banmesh_store_healthy 1`, `banmesh_spooled_calls 19`, `banmesh_warnings 51`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("not in the scrape: %s", line)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("not in the scrape: %s", name)
		}
	}
}

func TestAnAgentWithNothingToShow(t *testing.T) {
	all := families(t, scrape(t, newMetrics(t, Config{Source: &fixed{}})))
	if all["banmesh_last_commit_timestamp_seconds"] != nil {
		t.Error("a last commit is shown where there was none")
	}
	if f := all["banmesh_bans_live"]; f == nil || f.GetMetric()[0].GetGauge().GetValue() != 0 {
		t.Errorf("no bans: %v, want a zero", f)
	}
	states := 0.0
	for _, m := range all["banmesh_enforce_state"].GetMetric() {
		if states += m.GetGauge().GetValue(); m.GetLabel()[0].GetValue() == "off" && m.GetGauge().GetValue() != 1 {
			t.Error("enforcement that is not configured is not off")
		}
	}
	if states != 1 {
		t.Errorf("enforcement is in %v states", states)
	}
}

func TestLabelsAreBounded(t *testing.T) {
	s := &fixed{Gossip: gossip.Stats{Dropped: map[string]uint64{}}}
	total := 0.0
	for i := range 10 * maxReasons {
		s.Gossip.Dropped[fmt.Sprintf("reason \xff %d", i)] = uint64(i)
		total += float64(i)
	}
	all := families(t, scrape(t, newMetrics(t, Config{Source: s})))["banmesh_gossip_dropped_total"].GetMetric()
	if len(all) != maxReasons+1 {
		t.Errorf("%d reasons are shown, want %d and the others together", len(all), maxReasons)
	}
	for _, m := range all {
		total -= m.GetCounter().GetValue()
	}
	if total != 0 {
		t.Errorf("%v drops are not shown", total)
	}
}

func TestASecondRegistryDoesNotMind(t *testing.T) {
	newMetrics(t, Config{})
	newMetrics(t, Config{})
	if _, err := New(Config{}); err == nil {
		t.Error("metrics of no source were made")
	}
}

func theirBan(origin string, start time.Time) store.Event {
	return store.Event{Kind: store.EventBan, Origin: origin, Start: store.At(start), Prefix: netip.MustParsePrefix("192.0.2.1/32")}
}

func TestPropagationIsMeasuredOfLiveBans(t *testing.T) {
	settled := true
	m := newMetrics(t, Config{Now: func() time.Time { return t0 }, Settled: func() bool { return settled }})
	check := func(what string, count uint64, sum, late float64) {
		t.Helper()
		all := families(t, scrape(t, m))
		h := all["banmesh_propagation_seconds"].GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != count || h.GetSampleSum() != sum {
			t.Errorf("%s: %d measured, %v s together, want %d and %v", what, h.GetSampleCount(), h.GetSampleSum(), count, sum)
		}
		if got := all["banmesh_bans_arrived_late_total"].GetMetric()[0].GetCounter().GetValue(); got != late {
			t.Errorf("%s: %v late, want %v", what, got, late)
		}
	}
	m.Changed(store.Change{Events: []store.Event{
		theirBan("router2", t0.Add(-250*time.Millisecond)), theirBan("router3", t0.Add(-time.Second)),
	}})
	check("two bans", 2, 1.25, 0)
	m.Changed(store.Change{OwnHead: true, Events: []store.Event{theirBan("router1", t0.Add(-time.Second))}})
	check("an own ban", 2, 1.25, 0)
	extend := theirBan("router2", t0.Add(-time.Second))
	extend.Kind = store.EventExtend
	m.Changed(store.Change{Events: []store.Event{extend, {Kind: store.EventExpire, Origin: "router2"}, {Kind: store.EventLift, Origin: "router2"}}})
	check("what is no ban", 2, 1.25, 0)
	m.Changed(store.Change{Events: []store.Event{theirBan("router2", t0.Add(2*time.Second))}})
	check("a start ahead of the clock", 3, 1.25, 0)
	m.Changed(store.Change{Events: []store.Event{theirBan("router2", t0.Add(-time.Minute)), theirBan("router2", t0.Add(-61*time.Second))}})
	check("a minute, and more", 4, 61.25, 1)
	m.Changed(store.Change{Events: slices.Repeat([]store.Event{theirBan("router2", t0)}, liveBatch)})
	check("as many as may be live", 4+liveBatch, 61.25, 1)
	m.Changed(store.Change{Events: slices.Repeat([]store.Event{theirBan("router2", t0)}, liveBatch+1)})
	check("a bulk", 4+liveBatch, 61.25, liveBatch+2)
	m.Changed(store.Change{Events: []store.Event{theirBan("router2", t0)}, More: 1})
	check("part of a bulk", 4+liveBatch, 61.25, liveBatch+3)
	settled = false
	m.Changed(store.Change{Events: []store.Event{theirBan("router2", t0)}})
	check("not settled", 4+liveBatch, 61.25, liveBatch+4)
}

func TestCommitsAreMeasured(t *testing.T) {
	m := newMetrics(t, Config{})
	addrs := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")}
	m.Committed(commit.Event{Kind: commit.EventCommit, Add: addrs, Remove: addrs[:1], Took: 1500 * time.Millisecond})
	m.Committed(commit.Event{Kind: commit.EventCommit, Add: addrs, Took: 500 * time.Millisecond})
	m.Committed(commit.Event{Kind: commit.EventError, Detail: errors.ErrUnsupported.Error()})
	m.Committed(commit.Event{Kind: commit.EventForeign, Add: addrs})
	text := string(scrape(t, m))
	for _, line := range []string{
		`banmesh_commits_total 2`, `banmesh_commit_seconds_count 2`, `banmesh_commit_seconds_sum 2`, `banmesh_commit_seconds_bucket{le="1"} 1`,
		`banmesh_commit_changes_total{change="add"} 4`, `banmesh_commit_changes_total{change="remove"} 1`,
		`banmesh_commit_trouble_total{kind="error"} 1`, `banmesh_commit_trouble_total{kind="foreign"} 1`, `banmesh_commit_trouble_total{kind="held"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("not in the scrape: %s", line)
		}
	}
}

// Whatever other routers call their jails, the metrics stay few.
func TestJailsBeyondTheGreatestAreOne(t *testing.T) {
	s := full()
	s.Jails = make(map[string]int)
	for i := range 3 * maxJails {
		s.Jails[fmt.Sprintf("jail%03d", i)] = 1000 - i
	}
	f := families(t, scrape(t, newMetrics(t, Config{Source: s})))["banmesh_jail_bans"]
	sum := 0.0
	for _, m := range f.GetMetric() {
		sum += m.GetGauge().GetValue()
	}
	if n := len(f.GetMetric()); n != maxJails+1 || sum != 3*maxJails*1000-3*maxJails*(3*maxJails-1)/2 {
		t.Errorf("%d jails with %v bans", n, sum)
	}
}
