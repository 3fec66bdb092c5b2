package gossip

import (
	"errors"
	"testing"
	"time"
)

// TestClosedTCPIsConfirmedSoonInALargeMesh: the turn of a member that did not answer by
// a stream comes before those of the members whose turn is long due, and the others are
// looked at all the same.
func TestClosedTCPIsConfirmedSoonInALargeMesh(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	tab := &table{all: make(map[string]*peer)}
	for i := range 300 {
		name := string(rune('a'+i/26)) + string(rune('a'+i%26))
		tab.all[name] = &peer{name: name, state: Alive}
	}
	closed := "ca"
	looks := make(map[string]int)
	var first, said time.Duration
	for at := time.Duration(0); at < time.Hour; at += lookEvery {
		to, ok := tab.toLook(now.Add(at))
		if !ok {
			t.Fatal("with 300 members it is nobody's turn")
		}
		looks[to.name]++
		if to.name != closed {
			continue
		}
		tab.with(closed, func(p *peer) { p.streamed(errors.New("refused")) })
		switch {
		case first == 0:
			first = at
		case said == 0:
			said = at
		}
	}
	if said == 0 || said-first > 2*lookFailed {
		t.Errorf("first after %v, confirmed after %v, want %v between them at most", first, said, 2*lookFailed)
	}
	for name := range tab.all {
		if looks[name] == 0 {
			t.Fatalf("%s was not looked at within an hour", name)
		}
	}
	// Open again, it is found to be soon.
	at := now.Add(time.Hour)
	for range 4 {
		if to, _ := tab.toLook(at); to.name == closed {
			return
		}
		at = at.Add(lookEvery)
	}
	t.Error("it was not looked at again within 20 s")
}
