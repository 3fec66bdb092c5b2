package leader

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"banmesh/internal/excerpt"
)

func TestConfigNamesWhatCannotBeUsed(t *testing.T) {
	good := func() Config {
		return Config{Name: "a", Peers: func() []Peer { return nil }, Able: func() (bool, string) { return true, "" },
			Send: func(string, []byte) error { return nil }, tuning: defaultTuning()}
	}
	if err := good().validate(); err != nil {
		t.Fatal(err)
	}
	longest := good()
	longest.Name = strings.Repeat("a", maxName)
	if err := longest.validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		want  string
		spoil func(*Config)
	}{
		{"name", func(c *Config) { c.Name = "" }},
		{"name", func(c *Config) { c.Name = strings.Repeat("a", maxName+1) }},
		{"Peers", func(c *Config) { c.Peers = nil }},
		{"Able", func(c *Config) { c.Able = nil }},
		{"Send", func(c *Config) { c.Send = nil }},
		{"beat", func(c *Config) { c.tuning.Beat = 0 }},
		{"silence", func(c *Config) { c.tuning.Silence = c.tuning.Beat }},
		{"tuning", func(c *Config) { c.tuning.Stagger = -1 }},
		{"tuning", func(c *Config) { c.tuning.HandOver = -1 }},
		{"tuning", func(c *Config) { c.tuning.Observe = 0 }},
		{"tuning", func(c *Config) { c.tuning.Remember = 0 }},
	} {
		cfg := good()
		c.spoil(&cfg)
		if err := cfg.validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error = %v, want one about %s", err, c.want)
		}
	}
}

func TestALongDetailIsCutBetweenCharacters(t *testing.T) {
	for _, s := range []string{strings.Repeat("a", 300), strings.Repeat("ä", 200), "a" + strings.Repeat("ä", 200), strings.Repeat("€", 100), "a" + strings.Repeat("€", 100)} {
		got := excerpt.Cut(s, maxDetail)
		if !utf8.ValidString(got) || !strings.HasPrefix(s, got) || len(got) > maxDetail || len(got) < maxDetail-2 {
			t.Errorf("%q is cut to %d bytes %q", s, len(got), got)
		}
	}
	if s := strings.Repeat("a", maxDetail); excerpt.Cut(s, maxDetail) != s {
		t.Error("what fits is cut")
	}
}

func TestAnUnknownStateHasAName(t *testing.T) {
	if got, want := State(len(stateNames)).String(), "state 6"; got != want {
		t.Errorf("name = %q, want %q", got, want)
	}
}

func TestAnObserverWaitsForTwoWords(t *testing.T) {
	e := newElection("a", 0, true, defaultTuning(), time.Unix(0, 0))
	if got, want := e.silence(), 13*time.Second; got != want {
		t.Errorf("an observer waits %v for the leader's word, want %v", got, want)
	}
}

// TestANumberFarBehindIsThatOfARestart: up to there a word was overtaken on the way; from there on its author counts anew.
func TestANumberFarBehindIsThatOfARestart(t *testing.T) {
	const last = 1 << 40
	for _, tt := range []struct {
		behind uint64
		fresh  bool
	}{{0, false}, {1, false}, {late - 1, false}, {late, true}, {late + 1, true}} {
		o := order{}
		o.fresh("a", last)
		if got := o.fresh("a", last-tt.behind); got != tt.fresh {
			t.Errorf("%d behind: fresh %t", tt.behind, got)
		}
	}
}
