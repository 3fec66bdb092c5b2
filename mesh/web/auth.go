package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// guard lets only callers through that may read.
func (s *Server) guard(next http.Handler) http.Handler {
	if s.tokens == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, given := credentials(r)
		if given && s.tokens.holds(token) {
			next.ServeHTTP(w, r)
			return
		}
		if given { // without one it is a browser that asks how to log in
			s.wrong.note(r.RemoteAddr)
		}
		if r.Header.Get(keyHeader) != "" { // answer as the local API refuses a bouncer
			w.Header().Set("Connection", "close")
			problem(w, http.StatusForbidden, "access forbidden")
			return
		}
		h := w.Header()
		h.Add("WWW-Authenticate", `Basic realm="banmesh", charset="UTF-8"`)
		h.Add("WWW-Authenticate", `Bearer realm="banmesh"`)
		h.Set("Connection", "close") // a caller without access keeps no connection
		text(w, http.StatusUnauthorized, "this needs a token of http.token_file: as a bearer's, or as the password of any user")
	})
}

const (
	// logEvery is how often failed attempts from one address are logged.
	logEvery = 10 * time.Second
	// maxAttempts bounds how many addresses are counted separately.
	maxAttempts = 128
)

// attempts logs failed attempts, but only some of them.
type attempts struct {
	now func() time.Time
	log *slog.Logger

	mu   sync.Mutex
	from map[string]*attempt
}

// attempt counts what is not logged: an attacker must not be able to fill the log.
type attempt struct {
	logged time.Time
	more   int // since then
}

func newAttempts(now func() time.Time, log *slog.Logger) *attempts {
	return &attempts{now: now, log: log, from: make(map[string]*attempt)}
}

// note counts an attempt from an address, IP:port.
func (a *attempts) note(remote string) {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		remote = ap.Addr().Unmap().String()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	at := a.from[remote]
	if at == nil {
		if a.forget(now); len(a.from) >= maxAttempts {
			// Beyond maxAttempts all others share one entry, so that the log stays bounded however many send.
			remote = "many addresses"
			at = a.from[remote]
		}
	}
	if at == nil {
		at = &attempt{}
		a.from[remote] = at
	}
	if age := now.Sub(at.logged); age >= 0 && age < logEvery {
		at.more++
		return
	}
	a.log.Warn("http: a wrong token was shown", "remote", remote, "unlogged_before", at.more)
	*at = attempt{logged: now}
}

// forget drops addresses whose log lines need not be held back any more.
func (a *attempts) forget(now time.Time) {
	if len(a.from) < maxAttempts {
		return
	}
	for remote, at := range a.from {
		if now.Sub(at.logged) >= logEvery {
			delete(a.from, remote)
		}
	}
}
