package web

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/store"
)

// The decisions of the effective set, in the form in which CrowdSec's local API gives them to its bouncers
// (https://docs.crowdsec.net/docs/next/local_api/bouncers), so that those enforce the mesh's bans as well.
//
//	GET /v1/decisions/stream?startup=true   everything
//	GET /v1/decisions/stream                what came and went since this bouncer asked last
//	GET /v1/decisions?ip=A | range=P        what covers an address or a range
//
// A bouncer is identified by its token and its address.

const (
	// foreverIs is the duration of a permanent decision, because bouncers know no such thing.
	foreverIs = 365 * 24 * time.Hour
	// endsAgree is how far an end may move, in milliseconds, before bouncers are told.
	endsAgree = 2 * 1000
	// maxBouncers bounds the bouncers whose last answers are remembered.
	// Each holds a list, shared with others as long as nothing changes.
	maxBouncers = 64
	// maxAnswers bounds the answers that are written at once: one of 50,000 decisions is 8 MB. Further requests wait for
	// answerWithin; after that they get a 503.
	maxAnswers   = 8
	answerWithin = 5 * time.Second
	// askedLately is how recently a bouncer must have asked for the set to be read again for it.
	askedLately = 2 * time.Minute
)

// decisions answers bouncers.
type decisions struct {
	effective effective
	now       func() time.Time
	ready     func() error

	answers chan struct{} // holds one value for each answer being written

	mu       sync.Mutex // taken before effective's
	asked    time.Time  // the last request of any bouncer
	bouncers map[string]*bouncer
}

// bouncer is what one bouncer holds according to the answers it was sent.
type bouncer struct {
	holds []entry
	asked time.Time
}

// newDecisions returns the answers; takenJail is the jail of bans that came from CrowdSec.
func newDecisions(set replicatedSet, now func() time.Time, ready func() error, takenJail string) *decisions {
	return &decisions{
		effective: effective{set: set, now: now, takenJail: takenJail}, now: now, ready: ready, bouncers: make(map[string]*bouncer),
		answers: make(chan struct{}, maxAnswers),
	}
}

// lookAgain reads the set again each minute while bouncers ask, until ctx ends, so that no bouncer has to wait for that.
func (d *decisions) lookAgain(ctx context.Context) {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		d.mu.Lock()
		age := d.now().Sub(d.asked)
		d.mu.Unlock()
		if age >= 0 && age < askedLately {
			d.effective.lookAgain()
		}
	}
}

// enter takes the right to write an answer, and leave gives it back. If too many are being written, enter answers 503.
func (d *decisions) enter(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	late := time.NewTimer(answerWithin)
	defer late.Stop()
	select {
	case d.answers <- struct{}{}:
		return func() { <-d.answers }, true
	case <-r.Context().Done():
	case <-late.C:
		w.Header().Set("Retry-After", strconv.Itoa(int(answerWithin/time.Second)))
		problem(w, http.StatusServiceUnavailable, "too many bouncers at once: ask again")
	}
	return nil, false
}

// bounded answers with next once this router knows enough, and while not too many answers are being written.
func (d *decisions) bounded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !d.relied(w) {
			return
		}
		leave, ok := d.enter(w, r)
		if !ok {
			return
		}
		defer leave()
		next(w, r)
	}
}

// stream answers GET /v1/decisions/stream.
func (d *decisions) stream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	want, known := wanted(q)
	if !known {
		d.write(w, r, []byte(`{"deleted":null,"new":null}`))
		return
	}
	// Scopes and origins are part of it: two bouncers of one host that ask for different things hold different lists.
	who := r.Header.Get(keyHeader) + " " + hostOf(r.RemoteAddr) + " " + q.Get("scopes") + " " + q.Get("origins")
	// Released before the answer is written: a slow bouncer must delay no other.
	d.mu.Lock() // one at a time, so that a bouncer's list is never compared with an older one
	now := d.now()
	entries := d.effective.current()
	d.asked = now
	b := d.bouncers[who]
	var came, went []entry
	// A bouncer that has restarted holds nothing, whatever it was sent before.
	if b == nil || q.Get("startup") == "true" {
		delete(d.bouncers, who) // treat it as empty until this answer has arrived
		// A new bouncer may hold decisions from an earlier run of this agent. Sending everything again changes nothing for
		// it.
		came = entries
	} else {
		came, went = changed(b.holds, entries, store.At(now))
	}
	d.mu.Unlock()

	body := append(make([]byte, 0, 160*(len(came)+len(went))+64), `{"deleted":`...)
	body = appendDecisions(body, went, want, now)
	body = append(body, `,"new":`...)
	body = appendDecisions(body, came, want, now)
	if d.write(w, r, append(body, '}')) != nil {
		return // tell again next time what did not arrive
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remember(who, entries, now)
}

// remember records what a bouncer holds now. mu is held.
func (d *decisions) remember(who string, entries []entry, now time.Time) {
	if d.bouncers[who] == nil && len(d.bouncers) >= maxBouncers {
		oldest := ""
		for name, b := range d.bouncers {
			if oldest == "" || b.asked.Before(d.bouncers[oldest].asked) {
				oldest = name
			}
		}
		delete(d.bouncers, oldest)
	}
	d.bouncers[who] = &bouncer{entries, now}
}

// changed compares two snapshots. A decision with another end is deleted and added again, because a bouncer keeps the first
// end that it was told.
func changed(old, now []entry, at store.Millis) (came, went []entry) {
	if len(old) == len(now) && len(old) > 0 && &old[0] == &now[0] {
		return nil, nil // the same snapshot
	}
	for len(old) > 0 || len(now) > 0 {
		if len(old) > 0 && len(now) > 0 && old[0] == now[0] { // nearly all
			old, now = old[1:], now[1:]
			continue
		}
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			a, b := old[0], now[0]
			// Compared by prefix alone, since the same prefix with another end is one decision that has moved.
			a.until, b.until = 0, 0
			order = a.compare(b)
		}
		switch {
		case order > 0:
			came, now = append(came, now[0]), now[1:]
		case order < 0:
			if old[0].until > at { // the bouncer has dropped expired decisions itself
				went = append(went, old[0])
			}
			old = old[1:]
		default:
			if moved := now[0].until - old[0].until; moved > endsAgree || moved < -endsAgree || now[0].taken != old[0].taken {
				went, came = append(went, old[0]), append(came, now[0])
			}
			old, now = old[1:], now[1:]
		}
	}
	return came, went
}

// lookup answers GET /v1/decisions.
func (d *decisions) lookup(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	want, known := wanted(q)
	text := q.Get("ip")
	if text == "" {
		text = q.Get("range")
	}
	if text == "" {
		text = q.Get("value")
	}
	var asked netip.Prefix
	if text != "" {
		p, err := control.ParsePrefix(text)
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		asked = p
	}
	contains := q.Get("contains") != "false"
	now := d.now()
	entries := d.effective.current()
	var found []entry
	if known {
		for _, e := range entries {
			p := e.prefix()
			switch {
			case !asked.IsValid(), p == asked:
			case contains && p.Bits() <= asked.Bits() && p.Contains(asked.Addr()):
			case !contains && p.Bits() >= asked.Bits() && asked.Contains(p.Addr()):
			default:
				continue
			}
			found = append(found, e)
		}
	}
	d.write(w, r, appendDecisions(nil, found, want, now))
}

// relied answers 503 while the set may be incomplete; a bouncer then keeps what it has.
func (d *decisions) relied(w http.ResponseWriter) bool {
	if err := d.ready(); err != nil {
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, "not settled yet")
		return false
	}
	return true
}

// problem has the shape of a CrowdSec error, which bouncers log.
func problem(w http.ResponseWriter, status int, message string) {
	body := []byte(`{"message":` + strconv.Quote(message) + "}\n")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// write sends the answer and flushes it. It returns an error if not all of it went out; while it waits in a buffer, nobody
// knows.
func (d *decisions) write(w http.ResponseWriter, r *http.Request, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(body) > 1<<10 {
		if packed, err := compress(body); err == nil {
			w.Header().Set("Content-Encoding", "gzip")
			body = packed
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// selection says which decisions a query asks for.
type selection struct {
	scopes     []string // none means all
	own, taken bool     // made in this mesh; taken from CrowdSec
}

// wanted parses a query into a selection; any is false if banmesh cannot have such decisions, since all of its decisions are
// bans. Decisions taken from CrowdSec are left out only if the query names other origins: a bouncer that also asks that
// CrowdSec does so.
func wanted(q url.Values) (want selection, any bool) {
	for _, key := range []string{"scopes", "scope"} {
		for _, s := range strings.FieldsFunc(q.Get(key), func(c rune) bool { return c == ',' }) {
			want.scopes = append(want.scopes, strings.ToLower(s))
		}
	}
	if t := q.Get("type"); t != "" && t != "ban" {
		return want, false
	}
	want.own, want.taken = true, true
	if o := q.Get("origins"); o != "" {
		named := strings.Split(o, ",")
		want.own, want.taken = slices.Contains(named, "banmesh"), slices.Contains(named, "crowdsec")
	}
	return want, want.own || want.taken
}

// appendDecisions writes decisions as an array, or null for none, as the local API does.
func appendDecisions(b []byte, entries []entry, want selection, now time.Time) []byte {
	at := now.UnixMilli()
	sep := byte('[')
	for _, e := range entries {
		p := e.prefix()
		scope := "Range"
		if p.IsSingleIP() {
			scope = "Ip"
		}
		if e.taken && !want.taken || !e.taken && !want.own || len(want.scopes) > 0 && !slices.Contains(want.scopes, strings.ToLower(scope)) {
			continue
		}
		left := foreverIs
		if e.until != store.Never {
			left = max(min(time.Duration(int64(e.until)-at)*time.Millisecond, foreverIs), time.Second)
		}
		b = append(b, sep)
		sep = ','
		b = append(b, `{"duration":"`...)
		b = append(b, left.String()...)
		b = append(b, `","id":`...)
		b = strconv.AppendUint(b, e.id(), 10)
		if e.taken {
			b = append(b, `,"origin":"crowdsec","scenario":"banmesh","scope":"`...)
		} else {
			b = append(b, `,"origin":"banmesh","scenario":"banmesh","scope":"`...)
		}
		b = append(b, scope...)
		b = append(b, `","type":"ban","value":"`...)
		if p.IsSingleIP() {
			b = p.Addr().AppendTo(b)
		} else {
			b = p.AppendTo(b)
		}
		b = append(b, `"}`...)
	}
	if sep == '[' {
		return append(b, `null`...)
	}
	return append(b, ']')
}

// id numbers a decision: the same prefix has the same number on every member.
func (e entry) id() uint64 {
	h := e.hi*0x9e3779b97f4a7c15 ^ e.lo*0xc2b2ae3d27d4eb4f ^ uint64(e.bits)<<32
	h ^= h >> 29
	return h&(1<<53-1) | 1 // JSON readers keep integers exact up to 53 bits
}

func hostOf(remote string) string {
	if a, err := netip.ParseAddrPort(remote); err == nil {
		return a.Addr().Unmap().String()
	}
	return remote
}
