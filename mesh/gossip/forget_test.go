package gossip

import (
	"testing"
	"time"
)

// An operator's word that a member is not coming back counts where its failure is
// noticed later, and not for one that was heard of since.
func TestForgottenBeforeItsFailureIsNoticed(t *testing.T) {
	m := &Mesh{cfg: Config{Name: "self"}, table: newTable("self")}
	m.known = &known{m: m, wake: make(chan struct{}, 1), members: make(map[string]*knownMember), seeds: []string{"192.0.2.1:1", "192.0.2.3:1"}}
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for name, heard := range map[string]int{"dead": 10, "lives": 60} {
		_, _, member := m.table.up(name, map[string]string{"dead": "192.0.2.1:1", "lives": "192.0.2.2:1"}[name], nodeMeta{}, start)
		m.known.changed(member)
		m.table.measured(name, 0, at(heard))
	}
	said := map[string]time.Time{"dead": at(30), "lives": at(30)}
	if got := m.Forget(said); len(got) != 0 {
		t.Errorf("%v forgotten while alive", got)
	}
	for _, name := range []string{"dead", "lives"} {
		_, _, member := m.table.down(name, at(100))
		m.known.changed(member)
	}
	if got := m.Forget(said); len(got) != 1 || got[0] != "dead" || m.Remembers("dead") || !m.Remembers("lives") {
		t.Errorf("%v forgotten, want dead", got)
	}
	if len(m.known.seeds) != 1 {
		t.Errorf("joined still: %v", m.known.seeds)
	}
}
