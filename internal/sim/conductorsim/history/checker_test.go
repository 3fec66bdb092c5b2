package history_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim/history"
)

func line(address string) string {
	return "/config/authority/tenant['black']/member['internet']/address=" + history.Quote(address)
}

const (
	name  = "/config/authority/tenant['black']/name='black'"
	mark  = "/config/authority/service['web']/description='mine'"
	other = "/config/authority/tenant['white']/name='white'"
)

// replay numbers events as a log does and checks them.
func replay(c history.Checker, events ...history.Event) []history.Violation {
	for i := range events {
		events[i].N, events[i].Time = uint64(i+1), time.Unix(int64(i), 0)
	}
	c.Tenant = "black"
	return c.Check(events)
}

func commit(session uint64, e history.Event) history.Event {
	e.Kind, e.Session, e.Store = history.Running, session, "running"
	if e.Via == "" {
		e.Via = "netconf"
	}
	return e
}

func lock(kind history.Kind, session uint64, scope string) history.Event {
	return history.Event{Kind: kind, Session: session, Store: "candidate", Scope: scope}
}

func TestCheckerFindsWhatBreaksTheRules(t *testing.T) {
	start := history.Event{Kind: history.Start, Added: []string{name, mark, line("192.0.2.1/32"), line("2001:db8::1/128")}}
	no := func(c history.Change) error { return errors.New("nothing says so") }
	for _, c := range []struct {
		name    string
		checker history.Checker
		events  []history.Event
		want    []history.Rule
	}{
		{"nothing wrong", history.Checker{MustLock: true}, []history.Event{lock(history.Lock, 1, ""),
			commit(1, history.Event{Added: []string{line("192.0.2.2/32")}, Removed: []string{line("192.0.2.1/32")}}), lock(history.Unlock, 1, "")}, nil},
		{"another's mark removed", history.Checker{}, []history.Event{commit(1, history.Event{Removed: []string{mark}})}, []history.Rule{history.RuleOutside}},
		{"another's half-finished work committed", history.Checker{}, []history.Event{commit(1, history.Event{Added: []string{other}})}, []history.Rule{history.RuleOutside}},
		{"another's own commit", history.Checker{Came: no, Gone: no}, []history.Event{commit(1, history.Event{Via: "console", Added: []string{other, line("192.0.2.9/32")}, Removed: []string{mark}})}, nil},
		{"came without reason", history.Checker{Came: no}, []history.Event{commit(1, history.Event{Added: []string{line("192.0.2.2/32")}})}, []history.Rule{history.RuleCame}},
		{"gone without reason", history.Checker{Gone: no}, []history.Event{commit(1, history.Event{Removed: []string{line("192.0.2.1/32")}})}, []history.Rule{history.RuleGone}},
		{"only spelled otherwise", history.Checker{Came: no, Gone: no}, []history.Event{commit(1, history.Event{Added: []string{line("2001:DB8:0::1/128")}, Removed: []string{line("2001:db8::1/128")}})}, nil},
		{"host bits", history.Checker{Came: func(c history.Change) error {
			if c.Prefix != netip.MustParsePrefix("198.51.100.0/24") || c.Member != "internet" {
				return fmt.Errorf("got %+v", c)
			}
			return nil
		}}, []history.Event{commit(1, history.Event{Added: []string{line("198.51.100.7/24")}})}, nil},
		{"no address", history.Checker{}, []history.Event{commit(1, history.Event{Added: []string{line("192.0.2.2")}})}, []history.Rule{history.RuleTenant}},
		{"tenant gone", history.Checker{}, []history.Event{commit(1, history.Event{Removed: []string{name}})}, []history.Rule{history.RuleTenant}},
		{"description changed", history.Checker{}, []history.Event{
			commit(1, history.Event{Added: []string{"/config/authority/tenant['black']/description='a=b'"}}),
			commit(1, history.Event{Added: []string{"/config/authority/tenant['black']/description='c'"}, Removed: []string{"/config/authority/tenant['black']/description='a=b'"}})}, nil},
		{"two inside a lock", history.Checker{}, []history.Event{lock(history.Lock, 1, ""), lock(history.Lock, 2, "")}, []history.Rule{history.RuleLock}},
		{"two locks of two candidates", history.Checker{}, []history.Event{lock(history.Lock, 1, "node1"), lock(history.Lock, 2, "node2")}, nil},
		{"unlocked by another", history.Checker{}, []history.Event{lock(history.Lock, 1, ""), lock(history.Unlock, 2, "")}, []history.Rule{history.RuleLock}},
		{"committed into a lock", history.Checker{}, []history.Event{lock(history.Lock, 1, ""), commit(2, history.Event{})}, []history.Rule{history.RuleLock}},
		{"committed by an administrator into a lock", history.Checker{}, []history.Event{lock(history.Lock, 1, ""), commit(2, history.Event{Via: "console"})}, []history.Rule{history.RuleLock}},
		{"committed without a lock", history.Checker{MustLock: true}, []history.Event{commit(1, history.Event{})}, []history.Rule{history.RuleLock}},
		{"a restart frees the lock", history.Checker{}, []history.Event{lock(history.Lock, 1, ""), start, lock(history.Lock, 1, "")}, nil},
		{"ours by user", history.Checker{Came: no, Ours: func(e history.Event) bool { return e.User == "banmesh" }},
			[]history.Event{commit(1, history.Event{User: "ann", Added: []string{line("192.0.2.2/32")}}),
				commit(2, history.Event{User: "banmesh", Added: []string{line("192.0.2.3/32")}})}, []history.Rule{history.RuleCame}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []history.Rule
			violations := replay(c.checker, append([]history.Event{start}, c.events...)...)
			for _, v := range violations {
				got = append(got, v.Rule)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("violations %v, want rules %q", violations, c.want)
			}
		})
	}
}

func TestLinesAreReadAsTheyAreWritten(t *testing.T) {
	for _, tenant := range []string{"black", "it's", `back\slash`, "two\nlines", "']/member['x", ""} {
		l := "/config/authority/tenant[" + history.Quote(tenant) + "]/member['internet']/address='192.0.2.1/32'"
		a, ok := history.AddressOf(l)
		if want := (history.Address{Tenant: tenant, Member: "internet", Text: "192.0.2.1/32"}); !ok || a != want {
			t.Errorf("%s: got %+v, %v", l, a, ok)
		}
		if got, ok := history.TenantOf(l); !ok || got != tenant {
			t.Errorf("%s: tenant %q, %v", l, got, ok)
		}
	}
	for _, l := range []string{"", name, mark, line("x") + "y", "/config/authority/tenant['black", "/config/authority/tenant['x']/member['y\\"} {
		if a, ok := history.AddressOf(l); ok {
			t.Errorf("%q is taken for an address: %+v", l, a)
		}
	}
}

func TestHistoryIsReadBackFromItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	now := time.Unix(1700000000, 0)
	var want []history.Event
	for range 2 {
		log, err := history.AppendTo(path, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		grown := log.Grown()
		log.Add(history.Event{Kind: history.Start, Added: []string{name, line(strings.Repeat("x", 100_000))}})
		log.Add(history.Event{Kind: history.Running, Session: 3, Removed: []string{name}})
		<-grown
		want = append(want, log.Events()...)
		if log.Commits() != 1 {
			t.Errorf("%d commits, want 1", log.Commits())
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := history.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHistoryCutShortIsReadAsFarAsItGoes(t *testing.T) {
	text := `{"n":1,"time":"2026-01-01T00:00:00Z","kind":"start"}` + "\n" + `{"n":2,"time":"2026-01-0`
	got, err := history.Read(strings.NewReader(text))
	if err != nil || len(got) != 1 || got[0].Kind != history.Start {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := history.Read(strings.NewReader("{}\nnonsense\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v, want an error of line 2", err)
	}
}
