package history

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"banmesh/store"
)

var epoch = time.UnixMilli(1_800_000_000_000)

// world is the set and the clock that a history under test is given.
type world struct {
	mu   sync.Mutex
	now  time.Time
	live []store.LiveBan
	walk func() // called before live is walked
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) LiveBans() iter.Seq[store.LiveBan] {
	if w.walk != nil {
		w.walk()
	}
	return slices.Values(w.live)
}

// crowd lets so many bans be live.
func (w *world) crowd(n int) {
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		w.live = append(w.live, store.LiveBan{Prefix: netip.PrefixFrom(a, 32), Origin: "router1", Jail: "sshd", Start: store.At(epoch)})
	}
}

func opened(t testing.TB, dir string, w *world, change func(*Config)) *History {
	t.Helper()
	h := unstarted(t, dir, w, change)
	h.Start()
	return h
}

func unstarted(t testing.TB, dir string, w *world, change func(*Config)) *History {
	t.Helper()
	c := Config{Dir: dir, Keep: DefaultKeep, MaxEntries: DefaultMaxEntries, Set: w, Now: w.Now, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	h, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	h.Patience = time.Minute
	t.Cleanup(func() { h.Close() })
	return h
}

func closed(t testing.TB, h *History) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

func ban(prefix, origin, jail string, start time.Time) store.Event {
	return store.Event{
		Kind: store.EventBan, Prefix: netip.MustParsePrefix(prefix), Origin: origin, Jail: jail, Start: store.At(start), Until: store.At(start.Add(time.Hour)),
	}
}

func (h *History) noted(now time.Time, events ...store.Event) {
	h.Note(now, store.Change{Events: events})
}

func ask(t testing.TB, h *History, q Query) []store.Event {
	t.Helper()
	events, _, err := h.Events(q)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestWhatWasNotedIsToldAlsoAfterARestart(t *testing.T) {
	dir, w := t.TempDir(), &world{now: epoch}
	h := opened(t, dir, w, nil)
	var want []store.Event
	for i := range 1300 {
		e := ban(fmt.Sprintf("198.51.%d.%d/32", i/256, i%256), fmt.Sprintf("router%d", i%7), "sshd", epoch.Add(time.Duration(i)*time.Second))
		e.Text, e.Failures = fmt.Sprint("reason ", i), uint32(i)
		h.noted(epoch.Add(time.Duration(i)*time.Second), e)
		e.Time = e.Start
		want = append([]store.Event{e}, want...)
	}
	if got := ask(t, h, Query{}); !slices.Equal(got, want) {
		t.Errorf("before the restart: %d events, want the %d that were noted, the newest first", len(got), len(want))
	}
	closed(t, h)
	h = opened(t, dir, w, nil)
	if got := ask(t, h, Query{}); !slices.Equal(got, want) {
		t.Errorf("after the restart: %d events, want the %d that were noted, the newest first", len(got), len(want))
	}
	got, more, err := h.Events(Query{Limit: 3})
	if err != nil || !more || !slices.Equal(got, want[:3]) {
		t.Errorf("limit 3: %d events, more %v, error %v", len(got), more, err)
	}
}

// TestAWriteWaitsForAQuietMoment: what is noted is written a second later, between what is noted then and not beside it; and
// though something is noted all the time. No two timers end at one instant here: their order would be left to chance.
func TestAWriteWaitsForAQuietMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := opened(t, t.TempDir(), &world{now: epoch}, nil)
		began, noted := time.Now(), 0
		at := func(d time.Duration) {
			time.Sleep(time.Until(began.Add(d)))
			synctest.Wait()
		}
		note := func() {
			noted++
			h.noted(epoch, ban(fmt.Sprintf("198.51.100.%d/32", noted), "router1", "sshd", epoch))
		}
		saved := func() int {
			h.mu.Lock()
			defer h.mu.Unlock()
			return noted - int(h.last.end()-h.saved)
		}
		last := writeEvery - quiet/2
		for _, d := range []time.Duration{0, writeEvery / 2, last} {
			at(d)
			note()
		}
		at(last + quiet - time.Millisecond)
		if n := saved(); n != 0 {
			t.Errorf("%d are written just after one is noted", n)
		}
		at(last + quiet + time.Millisecond)
		if n := saved(); n != noted {
			t.Errorf("%d of %d are written in a quiet moment", n, noted)
		}
		began = time.Now()
		note()
		early := 0
		for d := quiet * 3 / 5; d < writeLast+quiet; d += quiet * 3 / 5 {
			if d < writeLast {
				early = noted
			}
			at(d)
			note()
		}
		if n := saved(); n < early {
			t.Errorf("%d of %d are written after %v of events", n, early, writeLast)
		}
		closed(t, h)
	})
}

func TestAPrefixFindsWhatCoversItAndWhatIsInside(t *testing.T) {
	w := &world{now: epoch}
	h := opened(t, t.TempDir(), w, nil)
	for _, p := range []string{"203.0.113.7/32", "203.0.113.0/24", "203.0.112.0/20", "203.0.114.1/32", "2001:db8::1/128", "2001:db8::/32", "::cb00:7107/128"} {
		h.noted(epoch, ban(p, "router1", "sshd", epoch))
	}
	h.noted(epoch, store.Event{Kind: store.EventFreeze, Origin: "router1"})
	for prefix, want := range map[string][]string{
		"203.0.113.7/32": {"203.0.113.7/32", "203.0.113.0/24", "203.0.112.0/20"}, "203.0.113.0/24": {"203.0.113.7/32", "203.0.113.0/24", "203.0.112.0/20"},
		"203.0.114.0/24": {"203.0.112.0/20", "203.0.114.1/32"}, "2001:db8::/48": {"2001:db8::1/128", "2001:db8::/32"},
		"0.0.0.0/0": {"203.0.113.7/32", "203.0.113.0/24", "203.0.112.0/20", "203.0.114.1/32"},
		"::/0":      {"2001:db8::1/128", "2001:db8::/32", "::cb00:7107/128"}, "192.0.2.1/32": nil,
	} {
		var got []string
		for _, e := range ask(t, h, Query{Prefix: netip.MustParsePrefix(prefix)}) {
			got = append([]string{e.Prefix.String()}, got...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", prefix, got, want)
		}
	}
}

func TestFiltersHoldTogether(t *testing.T) {
	w := &world{now: epoch}
	h := opened(t, t.TempDir(), w, nil)
	for i, jail := range []string{"sshd", "nginx", "sshd"} {
		e := ban("203.0.113.7/32", fmt.Sprint("router", i), jail, epoch)
		h.noted(epoch.Add(time.Duration(i)*time.Minute), e)
		e.Kind = store.EventLift
		h.noted(epoch.Add(time.Duration(i)*time.Minute), e)
	}
	got := ask(t, h, Query{Jail: "sshd", Kinds: []store.EventKind{store.EventLift}, Since: store.At(epoch.Add(time.Minute))})
	if len(got) != 1 || got[0].Origin != "router2" || got[0].Kind != store.EventLift {
		t.Errorf("got %+v, want router2's lift alone", got)
	}
	if got := ask(t, h, Query{Origin: "nobody"}); len(got) != 0 {
		t.Errorf("of an unknown router: %+v", got)
	}
}

func TestMemoryIsBoundedInEntriesAndInDays(t *testing.T) {
	dir, w := t.TempDir(), &world{now: epoch}
	bounded := func(c *Config) { c.MaxEntries, c.Keep = 1000, 24*time.Hour }
	h := opened(t, dir, w, bounded)
	for i := range 5000 {
		h.noted(w.Now(), ban(fmt.Sprintf("10.0.%d.%d/32", i/256, i%256), "router1", "sshd", epoch))
	}
	if n := len(ask(t, h, Query{})); n != 1000 {
		t.Errorf("%d entries remembered, want 1000", n)
	}
	closed(t, h)
	h = opened(t, dir, w, bounded)
	if n := len(h.blocks) * blockLen; n > 1000+2*blockLen {
		t.Errorf("the file holds up to %d entries, want about 1000", n)
	}
	w.add(25 * time.Hour)
	if n := len(ask(t, h, Query{})); n != 0 {
		t.Errorf("%d entries are older than a day and remembered", n)
	}
	h.noted(w.Now(), ban("203.0.113.7/32", "router1", "sshd", w.Now()))
	closed(t, h)
	h = opened(t, dir, w, bounded)
	if len(h.blocks) > 2 {
		t.Errorf("%d blocks in the file, want the last two at most", len(h.blocks))
	}
}

func TestCatchUpFindsWhatWasBannedUnseen(t *testing.T) {
	dir := t.TempDir()
	w := &world{now: epoch, live: []store.LiveBan{
		{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Origin: "router1", Jail: "sshd", Start: store.At(epoch), Until: store.Never, Reason: "because"},
	}}
	var h *History
	for range 3 {
		h = opened(t, dir, w, nil)
		<-h.ready
		closed(t, h)
	}
	h = opened(t, dir, w, nil)
	got := ask(t, h, Query{})
	if len(got) != 1 || got[0].Kind != store.EventBan || got[0].Text != "because" || got[0].Until != store.Never {
		t.Errorf("got %+v, want the one live ban, once", got)
	}
}

func TestTheEventOfACaughtUpBanIsNoSecondBan(t *testing.T) {
	w := &world{now: epoch, live: []store.LiveBan{{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Origin: "router1", Jail: "sshd", Start: store.At(epoch)}}}
	h := opened(t, t.TempDir(), w, nil)
	<-h.ready
	h.noted(epoch, ban("203.0.113.7/32", "router1", "sshd", epoch))
	h.noted(epoch, ban("203.0.113.8/32", "router1", "sshd", epoch))
	if n := int(h.last.end() - 1); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

// More live bans than entries are remembered: what there is room for is noted, and what is past is not pushed out.
func TestCatchUpEndsWhereTheSetIsLargerThanTheMemory(t *testing.T) {
	w, dir := &world{now: epoch}, t.TempDir()
	w.crowd(1000 + 2*catchUpAtOnce)
	walks := 0
	w.walk = func() { walks++ }
	few := func(c *Config) { c.MaxEntries = 1000 }
	h := unstarted(t, dir, w, few)
	for i := range 10 {
		h.noted(epoch, ban(fmt.Sprintf("203.0.113.%d/32", i), "router1", "sshd", epoch))
	}
	h.Start()
	<-h.ready
	if got := ask(t, h, Query{}); len(got) != 1000 || got[999].Prefix.String() != "203.0.113.0/32" || walks != 1 {
		t.Errorf("%d entries after %d walks, want 1000 after one, and the first that was noted among them", len(got), walks)
	}
	closed(t, h)
	h = opened(t, dir, w, few)
	<-h.ready
	if walks != 1 {
		t.Errorf("a full memory is compared with the set: %d walks", walks)
	}
}

func TestCatchUpEndsWithTheHistory(t *testing.T) {
	w := &world{now: epoch}
	w.crowd(2 * catchUpAtOnce)
	h := unstarted(t, t.TempDir(), w, nil)
	walks := 0
	w.walk = func() {
		if walks++; walks == 1 {
			go h.Close()
			<-h.stop
		}
	}
	h.Start()
	<-h.ready
	if walks != 1 {
		t.Errorf("%d walks, want none after Close", walks)
	}
}

func TestABanDuringTheCatchUpIsNotedOnce(t *testing.T) {
	w := &world{now: epoch}
	w.crowd(3)
	h := unstarted(t, t.TempDir(), w, nil)
	w.walk = func() { h.noted(epoch, ban(w.live[1].Prefix.String(), "router1", "sshd", epoch)) }
	h.Start()
	<-h.ready
	if got := ask(t, h, Query{}); len(got) != 3 {
		t.Errorf("%d entries of 3 bans: %+v", len(got), got)
	}
}

// The file is let go of when a disk answers that Close has not waited for.
func TestALateWriteLetsGoOfTheFile(t *testing.T) {
	w, dir := &world{now: epoch}, t.TempDir()
	h := opened(t, dir, w, nil)
	<-h.ready
	held, release := make(chan struct{}), make(chan struct{})
	go h.file.update(func(*bbolt.Tx) error { close(held); <-release; return nil })
	<-held
	h.noted(epoch, ban("203.0.113.7/32", "router1", "sshd", epoch))
	h.Patience = time.Millisecond
	if err := h.Close(); err == nil {
		t.Fatal("Close waits for the disk")
	}
	close(release)
	<-h.done
	var again *History
	for range 50 { // each waits for the lock
		f, _, err := openFile(h.file.path)
		if err == nil {
			f.close()
			again = opened(t, dir, w, nil)
			break
		}
	}
	if again == nil || len(ask(t, again, Query{})) != 1 {
		t.Error("the file is not let go of, or does not hold the late write")
	}
}

func TestWhatIsLostIsCounted(t *testing.T) {
	w := &world{now: epoch}
	h := opened(t, t.TempDir(), w, nil)
	h.Note(epoch, store.Change{Events: []store.Event{ban("203.0.113.7/32", "router1", "sshd", epoch)}, More: 41})
	h.noted(epoch, ban("203.0.113.8/32", "router1", "sshd", epoch))
	got := ask(t, h, Query{})
	if len(got) != 3 || got[1].Kind != EventLost || got[1].Failures != 41 {
		t.Errorf("got %+v, want two bans and between them that 41 events were lost", got)
	}
}

func TestARestOfABulkChangeIsNoted(t *testing.T) {
	w := &world{now: epoch}
	h := opened(t, t.TempDir(), w, nil)
	e := ban("203.0.113.7/32", "router1", "sshd", epoch)
	h.Note(epoch, store.Change{Events: []store.Event{e}, Rest: []store.Event{e, e}, More: 2})
	if got := ask(t, h, Query{}); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

func TestADiskThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	w := &world{now: epoch}
	h := opened(t, t.TempDir(), w, nil)
	held, release := make(chan struct{}), make(chan struct{})
	go h.file.update(func(*bbolt.Tx) error { close(held); <-release; return nil })
	<-held
	for i := range maxWaiting + 1000 {
		e := ban("203.0.113.7/32", "router1", "sshd", epoch)
		e.Failures = uint32(i)
		h.noted(epoch, e)
	}
	events, _, err := h.Events(Query{Limit: 1})
	if err != nil || len(events) != 1 || events[0].Failures != maxWaiting-1 {
		t.Errorf("while the disk hangs: %+v, error %v; want the last that fits", events, err)
	}
	close(release)
}

func TestADamagedFileIsSetAside(t *testing.T) {
	dir, w := t.TempDir(), &world{now: epoch}
	path := filepath.Join(dir, "history.db")
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	h := opened(t, dir, w, nil)
	h.noted(epoch, ban("203.0.113.7/32", "router1", "sshd", epoch))
	closed(t, h)
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	if h = opened(t, dir, w, nil); len(ask(t, h, Query{})) != 1 {
		t.Error("the new file does not remember")
	}
}

func TestADamagedBlockCostsNoOther(t *testing.T) {
	dir, w := t.TempDir(), &world{now: epoch}
	h := opened(t, dir, w, nil)
	for range 3 * blockLen {
		h.noted(epoch, ban("203.0.113.7/32", "router1", "sshd", epoch))
	}
	closed(t, h)
	db, err := bbolt.Open(filepath.Join(dir, "history.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		v := slices.Clone(b.Get(number(1 + blockLen)))
		v[100] ^= 1
		return b.Put(number(1+blockLen), v)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	h = opened(t, dir, w, nil)
	if n := len(ask(t, h, Query{})); n != 2*blockLen {
		t.Errorf("%d entries, want those of the two whole blocks, %d", n, 2*blockLen)
	}
}

func FuzzDecode(f *testing.F) {
	b := newBuilder(1)
	e := ban("203.0.113.7/32", "router1", "sshd", epoch)
	b.add(&e)
	f.Add(b.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := decode(1, raw)
		if err != nil {
			return
		}
		for i := range b.len() {
			b.event(b.at(i))
		}
	})
}

func TestSumsCountEachOffenceOnce(t *testing.T) {
	w := &world{now: epoch, live: []store.LiveBan{
		{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Origin: "router1", Jail: "sshd", Start: store.At(epoch), Until: store.Never},
		{Prefix: netip.MustParsePrefix("198.51.100.0/22"), Origin: "router2", Jail: "manual", Start: store.At(epoch), Until: store.Never},
	}}
	h := opened(t, t.TempDir(), w, nil)
	day := 24 * time.Hour
	for _, e := range []store.Event{
		ban("203.0.113.7/32", "router1", "sshd", epoch.Add(-day)), ban("203.0.113.8/32", "router1", "sshd", epoch.Add(-day)),
		ban("2001:db8::1/128", "router2", "nginx", epoch.Add(-day)), ban("2001:db8::1/128", "router1", "nginx", epoch.Add(-day)),
	} {
		h.noted(epoch.Add(-day), e)
	}
	h.noted(epoch.Add(-day), store.Event{Kind: store.EventLift, Prefix: netip.MustParsePrefix("203.0.113.8/32")}, store.Event{Kind: store.EventExpire})
	h.noted(epoch, ban("203.0.113.7/32", "router1", "sshd", epoch)) // live

	s, err := h.Sums(SumQuery{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Live != 2 || s.Past != 4 || s.Lifts != 1 || s.Expiries != 1 || s.Distinct != 3 {
		t.Errorf("got %+v", s)
	}
	if want := []NamedCount{{"sshd", 1, 2}, {"nginx", 0, 2}, {"manual", 1, 0}}; !slices.Equal(s.Jails, want) {
		t.Errorf("jails %v, want %v", s.Jails, want)
	}
	if want := []NamedCount{{"router1", 1, 3}, {"router2", 1, 1}}; !slices.Equal(s.Routers, want) {
		t.Errorf("routers %v, want %v", s.Routers, want)
	}
	net := func(p string, live, past int) NetworkCount { return NetworkCount{netip.MustParsePrefix(p), live, past} }
	if want := []NetworkCount{net("203.0.113.0/24", 1, 2), net("2001:db8::/48", 0, 2), net("198.51.100.0/22", 1, 0)}; !slices.Equal(s.Networks, want) {
		t.Errorf("networks %v, want %v", s.Networks, want)
	}
	if len(s.Repeaters) != 2 || s.Repeaters[0].Prefix.String() != "203.0.113.7/32" || !s.Repeaters[0].Live || s.Repeaters[1].Prefix.String() != "2001:db8::1/128" || s.Repeaters[1].Live {
		t.Errorf("repeaters %+v", s.Repeaters)
	}
	if len(s.Days) != 2 || s.Days[0].Bans != 4 || s.Days[0].Lifts != 1 || s.Days[1].Bans != 2 {
		t.Errorf("days %+v", s.Days)
	}
	if s, _ = h.Sums(SumQuery{Since: store.At(epoch.Add(-time.Hour)), Top: 1}); s.Past != 0 || s.Live != 2 || len(s.Routers) != 1 {
		t.Errorf("since an hour: %+v", s)
	}
}

// filled is a history of n past bans from m networks, and live ones beside it.
func filled(t testing.TB, n, live int) *History {
	r := rand.New(rand.NewPCG(1, 2))
	w := &world{now: epoch}
	address := func() netip.Prefix {
		net := uint32(r.ExpFloat64() * 15000)
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(net>>16) + 20, byte(net >> 8), byte(net), byte(r.Uint32())}), 32)
	}
	for i := range live {
		w.live = append(w.live, store.LiveBan{Prefix: address(), Origin: fmt.Sprint("router", i%10), Jail: fmt.Sprint("jail", i%5), Start: store.At(epoch), Until: store.Never})
	}
	h := opened(t, t.TempDir(), w, nil)
	for done := 0; done < n; {
		events := make([]store.Event, min(10000, n-done))
		for i := range events {
			events[i] = ban("192.0.2.1/32", fmt.Sprint("router", r.IntN(10)), fmt.Sprint("jail", r.IntN(5)), epoch.Add(-time.Duration(n-done-i)*7*time.Second))
			events[i].Prefix = address()
		}
		h.Note(epoch.Add(-time.Duration(n-done)*7*time.Second), store.Change{Events: events})
		if done += len(events); done%(maxWaiting/2/10000*10000) == 0 {
			closed(t, h)
			h = opened(t, h.cfg.Dir, w, nil)
		}
	}
	return h
}

// Numbers that share the bits which the sieve or the slots go by are told apart.
func TestNumbersAreToldApart(t *testing.T) {
	var s numbers
	if s.has(1) {
		t.Error("the empty set has a number")
	}
	in := make(map[uint64]bool)
	for i := range uint64(5000) {
		for _, n := range []uint64{i + 1, (i + 1) << 50, (i+1)*0x9e3779b97f4a7c15 | 1} {
			if got := s.add(n); got == in[n] {
				t.Fatalf("add(%#x) says %v", n, got)
			}
			in[n] = true
		}
	}
	for i := range uint64(20000) {
		for _, n := range []uint64{i + 1, (i + 1) << 49, (i+1)*0x9e3779b97f4a7c15 | 1} {
			if got := s.has(n); got != in[n] {
				t.Fatalf("has(%#x) says %v", n, got)
			}
		}
	}
}
