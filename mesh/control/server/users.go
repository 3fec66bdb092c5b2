package server

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"

	"banmesh/internal/peercred"
	"banmesh/mesh/control"
)

// What one user may take up. The agent needs its descriptors for gossip and for root's hooks, and a call may have bulkBody in
// memory.
const (
	connsPerUser = 64 // open connections
	callsPerUser = 4  // calls that are read and answered at once; further ones wait
)

// users bounds what each user of the socket takes up. Root and the agent's own user are not bounded: fail2ban's hooks are
// root's. The lock is a leaf.
type users struct {
	exempt func(uid uint32) bool
	log    *slog.Logger

	mu   sync.Mutex
	of   map[uint32]*caller
	open map[net.Conn]*caller
}

// caller is kept while a connection of its user is open, which outlasts its calls.
type caller struct {
	uid   uint32
	conns int
	full  bool          // connections were refused since there was room last
	calls chan struct{} // holds one for each call that is worked on
}

func newUsers(log *slog.Logger) *users {
	return &users{exempt: isExempt, log: log, of: make(map[uint32]*caller), open: make(map[net.Conn]*caller)}
}

func isExempt(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// caller returns what is kept of a user. Called with the lock held.
func (u *users) caller(uid uint32) *caller {
	one := u.of[uid]
	if one == nil {
		one = &caller{uid: uid, calls: make(chan struct{}, callsPerUser)}
		u.of[uid] = one
	}
	return one
}

// connState is http.Server's. It closes a connection of a user who has too many.
func (u *users) connState(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch state {
	case http.StateNew:
		cred, err := peercred.Of(c)
		// A caller that the kernel does not name is let in: the socket's mode has decided that it may connect.
		if err != nil || u.exempt(cred.UID) {
			return
		}
		one := u.caller(cred.UID)
		if one.conns >= connsPerUser {
			_ = c.Close()
			if !one.full {
				u.log.Warn("a user's connections to the control socket are refused: too many are open", "uid", cred.UID, "pid", cred.PID, "open", one.conns)
			}
			one.full = true
			return
		}
		one.conns++
		u.open[c] = one
	case http.StateClosed:
		if one := u.open[c]; one != nil {
			delete(u.open, c)
			one.conns--
			// Warned of again only once half of them have gone, and not at every connection at the edge.
			one.full = one.full && one.conns > connsPerUser/2
			if one.conns == 0 {
				delete(u.of, one.uid)
			}
		}
	}
}

// turn has calls of a user wait while callsPerUser others are worked on. Streams of events, which last, do not count.
func (u *users) turn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, ok := callerOf(r.Context())
		if !ok || u.exempt(cred.UID) || r.URL.Path == control.PathEvents {
			next.ServeHTTP(w, r)
			return
		}
		u.mu.Lock()
		one := u.of[cred.UID]
		u.mu.Unlock()
		if one == nil {
			return // its connection is closed already
		}
		select {
		case one.calls <- struct{}{}:
			defer func() { <-one.calls }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}
