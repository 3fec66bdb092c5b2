package page

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

func TestAllViewersShareOneLookAtTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := idlePage(t, f)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { text(t, p, "/") })
		}
		all.Wait()
		if asked, _ := f.counts(); asked != 1 {
			t.Errorf("50 viewers at once asked the agent %d times, want once", asked)
		}
		time.Sleep(lookPace)
		text(t, p, "/")
		if asked, _ := f.counts(); asked != 2 {
			t.Errorf("the agent was asked %d times a second later, want 2", asked)
		}
	})
}

func TestASlowAgentIsAskedLess(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		what string
		look look
		want time.Duration
	}{
		{"quick", look{at: at, took: time.Millisecond}, lookPace},
		{"quick, and out of date", look{at: at, took: time.Millisecond, outdate: at}, lookSoon},
		{"a million bans", look{at: at, took: 100 * time.Millisecond}, 2 * time.Second},
		{"a million bans, and out of date", look{at: at, took: 100 * time.Millisecond, outdate: at}, 2 * time.Second},
	} {
		if got := c.look.due().Sub(at); got != c.want {
			t.Errorf("%s: asked again after %v, want %v", c.what, got, c.want)
		}
	}
}

func TestNobodyWatchingCostsOneLookAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := newPage(t, f)
		synctest.Wait()
		before, _ := f.counts()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		asked, _ := f.counts()
		if got := asked - before; got < 9 || got > 11 {
			t.Errorf("asked %d times in ten minutes without viewers, want 10", got)
		}
		if _, made := p.frames.all(); made != 0 {
			t.Error("a frame was made for nobody")
		}
	})
}

func TestWhyInWords(t *testing.T) {
	since := control.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	for _, c := range []struct {
		query string
		why   control.Why
		err   error
		want  string
	}{
		{"203.0.113.7", control.Why{}, nil, "not banned, and nothing is known"},
		{"203.0.113.7", control.Why{Known: true, Bans: []control.WhyBan{{State: "expired", Prefix: "203.0.113.7/32"}}}, nil, "not banned now"},
		{"203.0.113.7", control.Why{Known: true, Banned: true, Effective: true}, nil, "The conductor does not have it"},
		{"203.0.113.7/32", control.Why{Known: true, Banned: true, Effective: true, Committed: true, CommittedSince: since}, nil, `since <time data-moment datetime="2026-03-01T12:00:00.000Z" title="2026-03-01 12:00:00 UTC">`},
		{"203.0.113.7", control.Why{Known: true, Banned: true, ReasonNotEffective: "allowed by router1"}, nil, "no effect: allowed by router1"},
		{"203.0.113.7", control.Why{Known: true, Banned: true, Effective: true, WaitsForQuorum: &control.QuorumWait{Jail: "sshd", Seen: 1, Needed: 3}}, nil, "when 3 routers have seen it in jail sshd; 1 have"},
		{"203.0.113.7", control.Why{Place: control.Place{ASN: 64500, ASName: "Example", Country: "DE"}}, nil, "It belongs to AS64500 Example, DE."},
		{"203.0.113.7", control.Why{Known: true, Banned: true, Effective: true, Times: 4, Origins: 2}, nil, "banned 4 times, by 2 routers"},
		{"::ffff:203.0.113.7", control.Why{}, nil, ">203.0.113.7<"},
		{" 2001:DB8::7 ", control.Why{}, nil, ">2001:db8::7<"},
		{"203.0.113.0/24", control.Why{Known: true, Inside: 1200}, nil, "Inside, 1,200 smaller ones are banned."},
		{"203.0.113.9/24", control.Why{}, nil, ">203.0.113.0/24<"},
		{"203.0.112.0/22", control.Why{Known: true, Banned: true, Effective: true, Except: control.Prefixes{netip.MustParsePrefix("203.0.113.7/32")}}, nil, "Exempt from that: 203.0.113.7."},
		{"203.0.113.7", control.Why{Known: true, Lifts: []control.WhyLift{{Prefix: "203.0.113.7/32", Origin: "router2", Offences: 1, Time: since}}}, nil, `by router2 <time data-ago datetime="2026-03-01T12:00:00.000Z"`},
		{"fe80::1%eth0", control.Why{}, nil, "That is not an IP address or network"},
		{"router1", control.Why{}, nil, "That is not an IP address or network"},
		{"203.0.113.7", control.Why{}, errors.New("the agent is stopping"), "The agent does not answer: the agent is stopping"},
	} {
		f := newFake()
		f.why, f.err = c.why, c.err
		p := idlePage(t, f)
		a := p.ask(t.Context(), c.query)
		got, err := p.render("answer", &view{Answer: a})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, "the answer for "+c.query, got, c.want)
	}
}

func TestALongAnswerIsCut(t *testing.T) {
	f := newFake()
	f.why = control.Why{Known: true, Bans: make([]control.WhyBan, 3*shownRecords)}
	a := idlePage(t, f).ask(t.Context(), "203.0.113.7")
	if len(a.Bans) != shownRecords || a.More != 2*shownRecords {
		t.Errorf("%d bans shown and %d more, want %d and %d", len(a.Bans), a.More, shownRecords, 2*shownRecords)
	}
}

func TestCommandsInASentenceAreToldApart(t *testing.T) {
	for sentence, want := range map[string][]phrase{
		"plain":                   {{"plain", false}},
		"see `banmesh diff`":      {{"see ", false}, {"banmesh diff", true}},
		"`a` then `b`, <b>":       {{"a", true}, {" then ", false}, {"b", true}, {", <b>", false}},
		"a name with ` alone":     {{"a name with ", false}, {"` alone", false}},
		"`a` and a name with ` x": {{"a", true}, {" and a name with ", false}, {"` x", false}},
		"":                        nil,
	} {
		if got := phrases(sentence); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", sentence, got, want)
		}
	}
}

func TestTheRingHoldsAnyNumberOfRouters(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 8, 9, 200} {
		var members []control.Member
		for i := range n {
			members = append(members, control.Member{Name: fmt.Sprintf("a-router-with-a-long-name-%d", i), State: "alive", InSync: true, Leader: i == 0})
		}
		g := drawRing(members, "")
		want := n
		if n > mostNodes {
			want = 0 // a list is shown
		}
		if len(g.Nodes) != want {
			t.Fatalf("%d nodes of %d routers", len(g.Nodes), n)
		}
		for i, d := range g.Nodes {
			var x, y, r, nx, ny float64
			fmt.Sscan(d.X+" "+d.Y+" "+d.R, &x, &y, &r)
			if x-r < 0 || y-r < 0 || x+r > ringWidth || y+r > ringHeight {
				t.Errorf("router %d of %d is outside of the picture", i, n)
			}
			next := g.Nodes[(i+1)%n]
			fmt.Sscan(next.X+" "+next.Y, &nx, &ny)
			if apart := math.Hypot(x-nx, y-ny); n > 1 && apart < 2*r {
				t.Errorf("routers %d and %d of %d overlap", i, i+1, n)
			}
			if d.Label == "" || d.Note == "" {
				t.Errorf("router %d of %d is labelled %q, %q", i, n, d.Label, d.Note)
			}
		}
	}
}
