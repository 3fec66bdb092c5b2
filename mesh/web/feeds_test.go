package web

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/store"
)

func TestFeedRestsWhileBansPourIn(t *testing.T) {
	set, c := mixed(), newClock()
	s := newServer(t, Config{Set: set, Now: c.now})
	h := s.handler(loopback)
	for range 100 {
		s.Changed(someBans)
		ask(t, h, "GET", "/feed/plain")
		c.pass(restFor / 50)
	}
	if n := set.looked(); n != 2 {
		t.Errorf("the set was read %d times in two seconds of changes, want 2", n)
	}
}

func TestFeedKeepsWhatOthersChangesDoNotTouch(t *testing.T) {
	set, c := mixed(), newClock()
	s := newServer(t, Config{Set: set, Now: c.now})
	h := s.handler(loopback)
	for kind, reads := range map[store.EventKind]int{
		store.EventPlaced: 0, store.EventFreeze: 0, store.EventThaw: 0,
		store.EventBan: 1, store.EventExtend: 1, store.EventLift: 1, store.EventExpire: 1, store.EventAllow: 1,
		store.EventDisallow: 1, store.EventNeverBan: 1, store.EventBlock: 1, store.EventUnblock: 1,
	} {
		ask(t, h, "GET", "/feed/plain")
		before := set.looked()
		c.pass(restFor)
		s.Changed(store.Change{OwnHead: true, Events: []store.Event{{Kind: kind}}})
		ask(t, h, "GET", "/feed/plain")
		if got := set.looked() - before; got != reads {
			t.Errorf("%v: the set was read %d times, want %d", kind, got, reads)
		}
	}
	before := set.looked()
	c.pass(restFor)
	s.Changed(store.Change{More: 1})
	ask(t, h, "GET", "/feed/plain")
	if set.looked() == before {
		t.Error("a change too large to list was not looked at")
	}
}

// What nobody tells of, as a never-ban list that runs out, shows all the same:
// the one who asks after a minute has the set looked at, the next one sees it.
func TestFeedIsLookedAtAgainInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := &fakeSet{}
		set.hold("10.0.0.1/32")
		s := newServer(t, Config{Set: set})
		h := s.handler(loopback)
		ctx, cancel := context.WithCancel(t.Context())
		go s.feeds.keep(ctx)
		ask(t, h, "GET", "/feed/plain")
		set.hold("10.0.0.2/32")
		time.Sleep(lookAgain)
		if a := ask(t, h, "GET", "/feed/plain"); a.body != "10.0.0.1\n" {
			t.Errorf("the one who asks first: %q, want the old feed at once", a.body)
		}
		synctest.Wait()
		if a := ask(t, h, "GET", "/feed/plain"); a.body != "10.0.0.2\n" {
			t.Errorf("the next one: %q, want the new feed", a.body)
		}
		if n := set.looked(); n != 2 {
			t.Errorf("the set was read %d times, want 2", n)
		}
		cancel()
	})
}

func TestFeedsThatNobodyAsksForAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := mixed()
		s := newServer(t, Config{Set: set})
		h := s.handler(loopback)
		ctx, cancel := context.WithCancel(t.Context())
		go s.feeds.keep(ctx)
		ask(t, h, "GET", "/feed/plain")
		ask(t, h, "GET", "/feed/json")
		for range 3 {
			time.Sleep(keepFor / 2)
			ask(t, h, "HEAD", "/feed/json")
		}
		synctest.Wait()
		s.feeds.mu.Lock()
		_, plainKept := s.feeds.kept[variant{format: plain}]
		_, jsonKept := s.feeds.kept[variant{format: inJSON}]
		s.feeds.mu.Unlock()
		if plainKept || !jsonKept {
			t.Errorf("plain kept: %v, json kept: %v; want only what is asked for", plainKept, jsonKept)
		}
		cancel()
	})
}

func TestFeedBodiesAreBounded(t *testing.T) {
	c := newClock()
	set := &fakeSet{}
	for i := range 2000 { // 140 KB as JSON
		set.bans = append(set.bans, ban(fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff), t0))
	}
	s := newServer(t, Config{Set: set, Now: c.now})
	s.feeds.most = 240 << 10
	h := s.handler(loopback)
	tags := make(map[string]string)
	for _, target := range []string{"/feed/json", "/feed/json?family=6", "/feed/json?aggregate=1", "/feed/plain"} {
		tags[target] = ask(t, h, "GET", target).header.Get("ETag")
		c.pass(time.Millisecond)
	}
	total := 0
	for _, e := range s.feeds.kept {
		total += len(e.body)
	}
	if total == 0 || total > s.feeds.most {
		t.Errorf("%d bytes are kept, want some and at most %d", total, s.feeds.most)
	}
	if s.feeds.kept[variant{format: inJSON}].body != nil || s.feeds.kept[variant{format: plain}].body == nil {
		t.Error("not the one asked for least lately was let go")
	}
	before := set.looked()
	for target, tag := range tags {
		if a := ask(t, h, "GET", target, "If-None-Match", tag); a.status != 304 {
			t.Errorf("%s: %d, want 304", target, a.status)
		}
		if a := ask(t, h, "HEAD", target); a.status != 200 || a.header.Get("Content-Length") == "0" {
			t.Errorf("%s: HEAD: %d, Content-Length %q", target, a.status, a.header.Get("Content-Length"))
		}
	}
	if n := set.looked() - before; n != 0 {
		t.Errorf("what was let go was written again %d times to say that it did not change", n)
	}
	if a := ask(t, h, "GET", "/feed/json", "If-None-Match", `"other"`); a.status != 200 || len(a.body) < 100<<10 {
		t.Errorf("what was let go and is wanted: %d with %d bytes", a.status, len(a.body))
	}
}

// Many ask while the set changes: each gets a whole feed of one moment, with the
// tag that belongs to it.
func TestFeedsWhileTheSetChanges(t *testing.T) {
	c := newClock()
	set := &fakeSet{}
	set.hold("10.0.0.1/32")
	s := newServer(t, Config{Set: set, Now: c.now})
	s.feeds.most = 1 // bodies are let go at once
	h := s.handler(loopback)
	var tags sync.Map // of tag and encoding, to body
	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			for n := range 50 {
				target, encoding := "/feed/plain", []string{"identity", "gzip"}[(i+n)%2]
				if i%4 == 3 {
					target = "/feed/json"
				}
				a := ask(t, h, "GET", target, "Accept-Encoding", encoding)
				if a.status != 200 || a.body == "" {
					t.Errorf("%s: %d with %d bytes", target, a.status, len(a.body))
				}
				if was, known := tags.LoadOrStore(a.header.Get("ETag"), a.body); known && was != a.body {
					t.Errorf("%s: two bodies of one tag", target)
				}
			}
		})
	}
	for i := range 40 {
		set.hold("10.0.0.1/32", fmt.Sprintf("10.0.1.%d/32", i))
		s.Changed(someBans)
		c.pass(restFor)
	}
	asking.Wait()
}
