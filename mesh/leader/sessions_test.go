package leader

import (
	"fmt"
	"testing"
	"time"
)

// listener is an elector that only hears, and its clock.
func listener(t *testing.T) (*Elector, *time.Time) {
	t.Helper()
	now := time.Now()
	e, err := New(Config{Name: "x", Peers: func() []Peer { return nil }, Able: func() (bool, string) { return false, "" },
		Send: func(string, []byte) error { return nil }, now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return e, &now
}

// awake lets time pass in which the elector can hear.
func awake(e *Elector, now *time.Time, d time.Duration) {
	for range d / time.Second {
		*now = now.Add(time.Second)
		e.Silent(15 * time.Second)
	}
}

func hear(t *testing.T, e *Elector, from string, h Heartbeat) {
	t.Helper()
	b, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e.Receive(from, b)
}

// A session may be killed once the member that announced it is silent. A member that passes a leader's word on has no session.
func TestAWordPassedOnRegistersNoSession(t *testing.T) {
	e, now := listener(t)
	held := Session{Node: "n", ID: 41}
	word := Heartbeat{Seq: 1, Term: 1, Name: "a", state: Committing, session: held}
	hear(t, e, "a", word)
	passed := word
	passed.Seq, passed.age = 1, time.Second
	hear(t, e, "b", passed) // and then nothing more of b

	for range 20 { // while a lives and goes on with its edit
		*now = now.Add(time.Second)
		word.Seq++
		hear(t, e, "a", word)
	}
	if got := e.Silent(15 * time.Second); got != nil {
		t.Errorf("sessions of silent members = %v, want none: a holds it and lives", got)
	}
	awake(e, now, 20*time.Second)
	if got := fmt.Sprint(e.Silent(15 * time.Second)); got != "[{n 41}]" {
		t.Errorf("sessions of silent members = %s, want a's", got)
	}
}

// One that asks who leads does not say that it has no session: it may ask while it still holds one.
func TestAskingClosesNoSession(t *testing.T) {
	e, now := listener(t)
	hear(t, e, "a", Heartbeat{Seq: 1, Term: 1, Name: "a", state: Committing, session: Session{Node: "n", ID: 41}})
	hear(t, e, "a", Heartbeat{Seq: 2, Term: 1, Name: "a", state: Asking})
	awake(e, now, 20*time.Second)
	if got := fmt.Sprint(e.Silent(15 * time.Second)); got != "[{n 41}]" {
		t.Errorf("sessions of silent members = %s, want a's", got)
	}
}

// The own word that comes back is no session of another member.
func TestTheOwnWordRegistersNoSession(t *testing.T) {
	e, now := listener(t)
	hear(t, e, "x", Heartbeat{Seq: 1, Term: 1, Name: "x", state: Committing, session: Session{Node: "n", ID: 41}})
	awake(e, now, 20*time.Second)
	if got := e.Silent(15 * time.Second); got != nil {
		t.Errorf("sessions of silent members = %v, want none", got)
	}
}

// TestWhoWasFrozenHoldsNobodySilent: the words that came meanwhile may still wait to be read.
func TestWhoWasFrozenHoldsNobodySilent(t *testing.T) {
	e, now := listener(t)
	hear(t, e, "a", Heartbeat{Seq: 1, Term: 1, Name: "a", state: Committing, session: Session{Node: "n", ID: 41}})
	*now = now.Add(time.Minute)
	if got := e.Silent(15 * time.Second); len(got) > 0 {
		t.Errorf("right after a minute of its own absence it holds %v silent", got)
	}
	awake(e, now, 16*time.Second)
	if got := e.Silent(15 * time.Second); len(got) != 1 {
		t.Errorf("after 16 s in which it could have heard it holds %v silent", got)
	}
}
