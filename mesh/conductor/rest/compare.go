package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/conductor"
)

// The datastores.
const (
	running   = string(conductor.RunningStore)
	candidate = string(conductor.CandidateStore)
)

// get reads a resource; absent means that the API itself answered 404. A 404 with an HTML page comes from something in front
// of it.
func (n *node) get(ctx context.Context, path string) (b []byte, absent bool, err error) {
	return n.getInto(ctx, path, nil)
}

// getInto is get with a buffer to use for the answer if it fits.
func (n *node) getInto(ctx context.Context, path string, into []byte) (b []byte, absent bool, err error) {
	a, err := n.callInto(ctx, http.MethodGet, path, nil, into)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusNotFound && status.Method == http.MethodGet: // not that of a login
		if status.page {
			return nil, false, fmt.Errorf("%w: %w: %w", conductor.ErrProtocol, errHTML, err)
		}
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case len(bytes.TrimSpace(a)) == 0:
		return nil, false, fmt.Errorf("%w: GET %s %w", conductor.ErrProtocol, pathOnly(path), errBlank)
	}
	a, failure := opened(pathOnly(path), a)
	if failure != nil && !strings.HasPrefix(path, "/config/version") {
		return nil, false, fmt.Errorf("%w: GET %s answered an error beside what it holds: %s", conductor.ErrProtocol, pathOnly(path), strings.Join(messages(failure), "; "))
	}
	return a, false, nil
}

// failed reports whether an object holds an error: what stands beside it may be the part that was read before.
func failed(b []byte) bool {
	if isObject(b) {
		for name, v := range fields(b) {
			if (name == "error" || name == "errors") && !isVoid(v) && string(v) != `""` && string(v) != "false" {
				return true
			}
		}
	}
	return false
}

// opened takes an answer out of its envelope: a field data, or one with the name of what was asked for, beside nothing but single
// values. Those can differ between two answers that hold the same configuration. An entry can also come as a list of one. failure
// is what holds an error, the envelope or what is in it; else nil.
func opened(path string, b []byte) (inside, failure []byte) {
	names, list, entry := []string{"data"}, false, false
	if _, below, ok := strings.Cut(path, "/authority"); ok {
		steps := strings.Split(below, "/")[1:]
		switch n := len(steps); {
		case n == 0:
			names = append(names, "authority")
		case n%2 == 0:
			names, entry = append(names, steps[n-2]), true
		default:
			names, list = append(names, steps[n-1]), true
		}
	}
	for depth := 0; ; depth++ {
		b = bytes.TrimSpace(b)
		if failed(b) {
			failure = b
		}
		inner := []byte(nil)
		switch {
		case depth == maxWrappers:
		case entry && isArray(b):
			var rest []byte
			if inner, rest = nextEntry(blank(b[1:])); len(rest) > 0 && rest[0] != ']' {
				return b, failure
			}
		case isObject(b):
			inner = envelope(b, names)
		}
		if inner == nil || list != isArray(inner) && !(entry && isArray(inner)) {
			return b, failure
		}
		b = inner
	}
}

// envelope returns the only field of an object that holds more than a single value, if it has one of the names; else nil.
func envelope(b []byte, names []string) (inner []byte) {
	for name, v := range fields(b) {
		switch {
		case name == "name" || isLink(name):
			return nil
		case !isObject(v) && !isArray(v):
		case inner != nil || !slices.Contains(names, name):
			return nil
		default:
			inner = v
		}
	}
	return inner
}

// Paths of a datastore's resources.
func authorityPath(store string) string { return "/config/" + store + "/authority" }
func tenantPath(store string, key conductor.Key) string {
	return authorityPath(store) + "/tenant/" + url.PathEscape(key.Tenant)
}
func memberPath(store string, key conductor.Key) string {
	return tenantPath(store, key) + "/member/" + url.PathEscape(key.Neighborhood)
}

// readTenant reads our tenant. It believes that the tenant is absent only if the authority does not show it either, nor, if that
// shows no tenants at all, their list: one wrong answer must not look like a tenant that somebody emptied.
func (n *node) readTenant(ctx context.Context, store string, key conductor.Key) (*conductor.Tenant, error) {
	b, absent, odd := n.get(ctx, tenantPath(store, key))
	if odd == nil && !absent {
		if !isVoid(b) {
			return n.tenantFrom(ctx, store, key, b)
		}
		odd = isNamed("tenant", nil, "name", key.Tenant)
	}
	if odd != nil && !mayMeanAbsent(odd) {
		return nil, odd
	}
	authority, absent, err := n.authority(ctx, store, nil)
	switch {
	case odd != nil && (err != nil || absent):
		return nil, odd
	case err != nil:
		return nil, err
	case absent && n.known().noVersion:
		// Nothing has shown yet that this is a conductor's API at all.
		return nil, fmt.Errorf("%w: neither %s nor /config/version is there; is this a conductor, and does its release have REST?",
			conductor.ErrProtocol, authorityPath(store))
	case absent:
		return &conductor.Tenant{}, nil
	}
	if _, shown := tenantOf(authority, key); shown {
		if odd != nil {
			return nil, odd
		}
		return nil, fmt.Errorf("%w: GET %s answered that there is no tenant %s, but the authority shows it", conductor.ErrProtocol, pathOnly(tenantPath(store, key)), key.Tenant)
	}
	if !showsTenants(authority) {
		if err := n.listLacks(ctx, store, key); err != nil {
			return nil, err
		}
	}
	return &conductor.Tenant{}, nil
}

// showsTenants reports whether an authority, or what that is wrapped in, shows any tenant. One that shows none may leave them out.
func showsTenants(authority []byte) bool {
	for name, v := range unwrapped(authority) {
		switch {
		case name == "tenant" && isArray(v) && !isVoid(v):
			return true
		case name == "tenant" && isObject(v): // by their names
			for name := range fields(v) {
				if !isLink(name) {
					return true
				}
			}
		}
	}
	return false
}

// listLacks asks for the list of tenants, and fails unless it shows that ours is not among them.
func (n *node) listLacks(ctx context.Context, store string, key conductor.Key) error {
	path := authorityPath(store) + "/tenant"
	b, absent, err := n.get(ctx, path)
	switch b = bytes.TrimSpace(b); {
	case absent, errors.Is(err, errBlank), err == nil && isVoid(b):
		return nil
	case err != nil:
		return err
	case !isArray(b) && !isObject(b):
		return fmt.Errorf("%w: GET %s is no list", conductor.ErrProtocol, path)
	}
	if _, shown := tenantOf(fmt.Appendf(nil, `{"tenant":%s}`, b), key); shown {
		return fmt.Errorf("%w: GET %s answered that there is no tenant %s, but the list of tenants shows it", conductor.ErrProtocol, pathOnly(tenantPath(store, key)), key.Tenant)
	}
	return nil
}

// mayMeanAbsent reports whether an answer without a tenant may be an API's way to say that there is none: an empty answer, a
// page, or a refusal of the path. The authority decides.
func mayMeanAbsent(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.Status == http.StatusNotFound || status.Status == http.StatusBadRequest
	}
	return errors.Is(err, errBlank) || errors.Is(err, errNoName)
}

// isVoid reports whether a value is empty.
func isVoid(b []byte) bool {
	switch b = bytes.TrimSpace(b); {
	case isObject(b):
		return blank(b[1:])[0] == '}'
	case isArray(b):
		return blank(b[1:])[0] == ']'
	}
	return string(b) == "null"
}

// authority reads a whole configuration, into the buffer if it fits. An authority that shows no lists counts as empty only if
// the list of tenants is empty too: a real one has at least routers, and a page that merely looks like an authority must not
// make a tenant absent. An authority that was there a moment ago cannot be absent.
func (n *node) authority(ctx context.Context, store string, into []byte) (b []byte, absent bool, err error) {
	path := authorityPath(store)
	b, absent, err = n.getInto(ctx, path, into)
	if err != nil {
		return nil, false, err
	}
	if absent {
		if at := n.known().authority; !at.IsZero() && n.now().Sub(at) < askAgain {
			return nil, false, fmt.Errorf("%w: GET %s answered that it does not exist, which it did %v ago", conductor.ErrProtocol, path, n.now().Sub(at).Round(time.Second))
		}
		return []byte("{}"), true, nil
	}
	if b, err = asAuthority(b); err != nil {
		return nil, false, err
	}
	if pages(b) {
		return nil, false, fmt.Errorf("%w: GET %s shows no whole list of tenants", conductor.ErrProtocol, path)
	}
	if !lists(b) {
		if err := n.emptyAuthority(ctx, path); err != nil {
			return nil, false, err
		}
	}
	n.learn(func(ab *about) { ab.authority = n.now() })
	return b, false, nil
}

// emptyAuthority reads the list of tenants of an authority that shows none, and fails unless it is an empty list.
func (n *node) emptyAuthority(ctx context.Context, path string) error {
	b, absent, err := n.optional(ctx, path+"/tenant")
	if err != nil {
		return err
	}
	if b = bytes.TrimSpace(b); !absent && isArray(b) {
		for range entries(b) {
			return fmt.Errorf("%w: GET %s shows no list of anything, but it has tenants", conductor.ErrProtocol, path)
		}
		return nil
	}
	return fmt.Errorf("%w: GET %s shows neither routers nor tenants nor services: that is no configuration", conductor.ErrProtocol, path)
}

// lists reports whether an authority, inside its wrappers, shows any of its lists.
func lists(b []byte) bool {
	for name, v := range unwrapped(b) {
		switch {
		case slices.Contains(notLists[:], name):
		case isArray(v), isObject(v) && name == "tenant", isArray(lone(v, "name")):
			return true
		}
	}
	return false
}

// lone returns the list of an entry that comes without one, as some converters to JSON show it; otherwise the value itself.
func lone(v []byte, key string) []byte {
	if isObject(v) {
		for name, value := range fields(v) {
			if name == key && len(value) > 0 && value[0] == '"' {
				return fmt.Appendf(nil, "[%s]", v)
			}
		}
	}
	return v
}

// pages reports whether the tenants come neither as a list nor as an object keyed by name. They may then be one page of
// several, and our tenant could be on another.
func pages(b []byte) bool {
	for name, v := range unwrapped(b) {
		if name != "tenant" || !isObject(v) {
			continue
		}
		for _, entry := range fields(v) {
			if !isObject(entry) {
				return true
			}
		}
	}
	return false
}

// notLists names the fields that hold an error.
var notLists = [...]string{"message", "messages", "error", "errors", "detail"}

// tenantFrom parses our tenant. If the object does not show the member, it reads that separately.
func (n *node) tenantFrom(ctx context.Context, store string, key conductor.Key, b []byte) (*conductor.Tenant, error) {
	t, shallow, err := parseTenant(b, key)
	if err != nil || !shallow {
		return t, err
	}
	b, absent, err := n.get(ctx, memberPath(store, key))
	if err != nil {
		return nil, err
	}
	if absent {
		if t.Member && len(t.Addresses) > 0 {
			return nil, fmt.Errorf("%w: GET %s answered that there is no member %s, but the tenant shows it", conductor.ErrProtocol, pathOnly(memberPath(store, key)), key.Neighborhood)
		}
		return t.WithoutMember(), nil
	}
	return t, parseMember(t, b, key)
}

// asAuthority returns the object of an authority, or the object that wraps it. It refuses an error that came with a status of
// success.
func asAuthority(b []byte) ([]byte, error) {
	b, err := jsonObject(b)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	complaint, holds := "", false
	for name, v := range fields(b) {
		switch name {
		case "message", "error", "errors", "detail":
			complaint = name
		default:
			holds = holds || isObject(v) || isArray(v) || name == "name"
		}
	}
	if complaint != "" && !holds {
		return nil, fmt.Errorf("%w: authority: the answer is an error: %s", conductor.ErrProtocol, strings.Join(messages(b), "; "))
	}
	return b, nil
}

// compare compares the whole of candidate and running. The order of lists counts, except that of our addresses: an
// administrator's edit may only reorder a list. If both configurations show our tenant, it is taken from them, so that the
// judgement rests on one reading of each.
func (n *node) compare(ctx context.Context, key conductor.Key) (*conductor.Difference, error) {
	pair := n.room.take()
	defer n.room.give(pair)
	a, b, shown, err := n.both(ctx, pair, key)
	if err != nil {
		return nil, err
	}
	d := &conductor.Difference{}
	if shown {
		d.Text = maphash.Bytes(textSeed, b)
	}
	if !bytes.Equal(a, b) {
		d.Foreign = firstDifference(a, b, key)
	}
	of := func(store string, whole []byte) (*conductor.Tenant, error) {
		t, there := tenantOf(whole, key)
		switch {
		case shown && !there && showsTenants(whole):
			return &conductor.Tenant{}, nil
		case shown && isObject(t):
			return n.tenantFrom(ctx, store, key, t)
		}
		return n.readTenant(ctx, store, key)
	}
	if d.Running, err = of(running, a); err != nil {
		return nil, err
	}
	if d.Candidate, err = of(candidate, b); err != nil {
		return nil, err
	}
	if d.Foreign == "" && !shown {
		// These releases do not show their entries, so only the conductor's own flag is left.
		about, err := n.look(ctx)
		if err != nil {
			return nil, err
		}
		if d.Explain(""); about.dirty && d.Clean() {
			d.Foreign = "the conductor says that the candidate is changed, and does not show where"
		}
	}
	return d, nil
}

// textSeed makes the hashes of candidates comparable within this process.
var textSeed = maphash.MakeSeed()

// room keeps the buffers of the last comparison for a while. A configuration can have 20 MB, and allocating two for each
// attempt would produce as much garbage.
type room struct {
	mu   sync.Mutex
	pair *[2][]byte
	drop *time.Timer
}

const roomFor = time.Minute

// take and give lend two buffers for the two configurations that are compared: they are as large as the whole
// authority, and growing them anew with each attempt would cost several times that. Who takes them has them
// alone; a second one gets empty ones.
func (r *room) take() *[2][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	pair := r.pair
	if r.pair = nil; pair == nil {
		pair = new([2][]byte)
	}
	return pair
}

func (r *room) give(pair *[2][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pair = pair
	if r.drop != nil {
		r.drop.Stop()
	}
	// Taken and dropped, for the garbage collector. A timer that is too late to be stopped only drops a pair
	// that could have been kept.
	r.drop = time.AfterFunc(roomFor, func() { r.take() })
}

// both reads the whole of running and candidate, in the same form, into the pair's buffers. shown says that they show what is
// inside their entries, or have none.
func (n *node) both(ctx context.Context, pair *[2][]byte, key conductor.Key) (a, b []byte, shown bool, err error) {
	keep := func(i int, b []byte) {
		if cap(b) > cap(pair[i]) {
			pair[i] = b[:0]
		}
	}
	whole := func(i int, store string) ([]byte, error) {
		b, absent, err := n.authority(ctx, store, pair[i])
		if absent && err == nil { // a new conductor has none, but one wrong answer looks the same
			b, _, err = n.authority(ctx, store, pair[i])
		}
		keep(i, b)
		return b, err
	}
	if a, err = whole(0, running); err != nil {
		return nil, nil, false, err
	}
	if cap(pair[1]) < len(a) {
		pair[1] = make([]byte, 0, len(a)+len(a)/16+512) // usually both have about the same size
	}
	if b, err = whole(1, candidate); err != nil {
		return nil, nil, false, err
	}
	// On a new conductor, one of the two may hold only our own tenant.
	if lists(a) != lists(b) && (holdsOthers(a, key) || holdsOthers(b, key)) {
		return nil, nil, false, fmt.Errorf("%w: one of running and candidate shows no list of anything", conductor.ErrProtocol)
	}
	if deep(a) || deep(b) {
		return a, b, true, nil
	}
	// Some releases give this resource without the content of its entries, and all of it only as an export.
	export := func(store string) ([]byte, error) {
		b, absent, err := n.get(ctx, "/config/getJSON?source="+store)
		if err != nil || absent {
			return nil, err
		}
		if b, err = asAuthority(b); err != nil || lists(b) {
			return b, err
		}
		return nil, fmt.Errorf("%w: GET /config/getJSON shows neither routers nor tenants nor services: that is no configuration", conductor.ErrProtocol)
	}
	x, err := export(running)
	if err != nil || x == nil {
		return a, b, false, err
	}
	y, err := export(candidate)
	if err != nil || y == nil {
		return a, b, false, err
	}
	return x, y, true, nil
}

// deep reports whether an authority shows the content of its lists' entries.
func deep(authority []byte) bool {
	some := false
	for _, list := range fields(authority) {
		if !isArray(list) {
			continue
		}
		for entry := range entries(list) {
			some = true
			if !isObject(entry) {
				continue
			}
			for _, field := range fields(entry) {
				if isArray(field) || isObject(field) {
					return true
				}
			}
		}
	}
	return !some
}

// wrappers names the objects that may wrap an authority.
var wrappers = [...]string{"authority", "config", "datastore"}

const maxWrappers = 4 // nested in each other

// unwrapped yields the members of an authority, also where it is wrapped.
func unwrapped(b []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) { unwrap(b, 0, yield) }
}

// unwrap yields the fields of a configuration through the envelopes that some releases put around it. depth
// bounds what a made-up answer can cost.
func unwrap(b []byte, depth int, yield func(string, []byte) bool) (more bool) {
	for name, v := range fields(b) {
		if slices.Contains(wrappers[:], name) && isObject(v) && depth < maxWrappers {
			more = unwrap(v, depth+1, yield)
		} else {
			if name == "tenant" {
				v = lone(v, "name")
			}
			more = yield(name, v)
		}
		if !more {
			return false
		}
	}
	return true
}

// tenantOf finds our tenant in an authority or its wrappers: the object, or only its name.
func tenantOf(whole []byte, key conductor.Key) (b []byte, there bool) {
	for name, v := range unwrapped(whole) {
		switch {
		case name == "tenant" && isArray(v):
			for entry := range entries(v) {
				if isOurs(entry, key) {
					return entry, true
				}
			}
		case name == "tenant" && isObject(v): // keyed by name
			for name, entry := range fields(v) {
				if name == key.Tenant && isOurs(entry, key) {
					return entry, true
				} else if name == key.Tenant {
					return nil, true
				}
			}
		}
	}
	return nil, false
}

// holdsOthers reports whether any list of an authority has an entry other than our tenant.
func holdsOthers(whole []byte, key conductor.Key) bool {
	for name, v := range unwrapped(whole) {
		switch {
		case isArray(v):
			for entry := range entries(v) {
				if name != "tenant" || !isOurs(entry, key) {
					return true
				}
			}
		case name == "tenant" && isObject(v):
			for name := range fields(v) {
				if name != key.Tenant {
					return true
				}
			}
		case isObject(v):
			return true
		}
	}
	return false
}

// isOurs reports whether an entry of the list of tenants, an object or a name, is ours.
func isOurs(entry []byte, key conductor.Key) bool {
	if isObject(entry) {
		for name, v := range fields(entry) {
			if name == "name" {
				return isText(v, key.Tenant)
			}
		}
		return false
	}
	return isText(entry, key.Tenant)
}

// isText compares after decoding, as JSON may write one text in several ways.
func isText(b []byte, text string) bool {
	var s string
	return len(b) > 0 && b[0] == '"' && json.Unmarshal(b, &s) == nil && s == text
}

// firstDifference names the first place outside our tenant where the configurations running and candidate differ; "" for
// none. It shows no values except names of list entries: others can be secret.
func firstDifference(a, b []byte, key conductor.Key) string {
	if place := objectDifference("", a, b, key, 0); place != "" {
		return "the candidate differs at " + conductor.OneLine(place)
	}
	return ""
}

// objectDifference compares two authorities, or the objects that wrap them.
func objectDifference(path string, a, b []byte, key conductor.Key, depth int) string {
	for _, f := range bothFields(a, b) {
		at := path + "/" + f.name
		place := ""
		if f.name == "tenant" {
			f.a, f.b = lone(f.a, "name"), lone(f.b, "name")
		}
		switch {
		case slices.Contains(wrappers[:], f.name) && depth < maxWrappers && (isObject(f.a) || f.a == nil) && (isObject(f.b) || f.b == nil):
			place = objectDifference(at, orEmpty(f.a, "{}"), orEmpty(f.b, "{}"), key, depth+1)
		case f.name == "tenant" && (isArray(f.a) || f.a == nil) && (isArray(f.b) || f.b == nil):
			place = listDifference(at, orEmpty(f.a, "[]"), orEmpty(f.b, "[]"), func(entry []byte) bool { return isOurs(entry, key) })
		case f.name == "tenant" && (isObject(f.a) || f.a == nil) && (isObject(f.b) || f.b == nil): // keyed by name
			for _, t := range bothFields(orEmpty(f.a, "{}"), orEmpty(f.b, "{}")) {
				if t.name != key.Tenant && place == "" {
					place = difference(at+"/"+t.name, t.a, t.b)
				}
			}
		default:
			place = difference(at, f.a, f.b)
		}
		if place != "" {
			return place
		}
	}
	return ""
}

// orEmpty makes a field that is missing equal to an empty one.
func orEmpty(b []byte, empty string) []byte {
	if b == nil {
		return []byte(empty)
	}
	return b
}

// difference finds the first place, in order of names, where two values differ; nil is an absent value. It decodes only
// single values whose texts differ: a decoded list takes ten times its size.
func difference(path string, a, b []byte) string {
	switch {
	case a != nil && bytes.Equal(a, b):
		return ""
	case isObject(a) && isObject(b):
		for _, f := range bothFields(a, b) {
			if place := difference(path+"/"+f.name, f.a, f.b); place != "" {
				return place
			}
		}
		return ""
	case isArray(a) && isArray(b):
		return listDifference(path, a, b, nil)
	case a != nil && b != nil && sameValue(a, b):
		return ""
	case path == "":
		return "/"
	}
	return conductor.OneLine(path)
}

// sameValue reports whether two values are equal although their spelling may differ.
func sameValue(a, b []byte) bool {
	if isObject(a) != isObject(b) || isArray(a) != isArray(b) {
		return false
	}
	var x, y any
	return unmarshal(a, &x) == nil && unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// listDifference compares two lists entry by entry, in order, leaving out those that skip selects.
func listDifference(path string, a, b []byte, skip func([]byte) bool) string {
	next := func(rest []byte) (entry, left []byte) {
		for {
			if entry, left = nextEntry(rest); entry == nil || skip == nil || !skip(entry) {
				return entry, left
			}
			rest = left
		}
	}
	a, b = blank(a[1:]), blank(b[1:])
	for {
		var x, y []byte
		x, a = next(a)
		y, b = next(b)
		if x == nil && y == nil {
			return ""
		}
		if bytes.Equal(x, y) && x != nil {
			continue
		}
		if place := difference(path+entryStep(x, y), x, y); place != "" {
			return place
		}
	}
}

// pairOf is a field of two objects; nil if one lacks it.
type pairOf struct {
	name string
	a, b []byte
}

// isLink reports whether a field is metadata that differs between datastores by nature: HAL's links, and the annotations of
// RFC 7952.
func isLink(name string) bool { return name == "_links" || strings.HasPrefix(name, "@") }

// bothFields lists, by name, the fields whose text differs between two objects.
func bothFields(a, b []byte) []pairOf {
	x, y := make(map[string][]byte), make(map[string][]byte)
	for name, v := range fields(a) {
		x[name] = v
	}
	for name, v := range fields(b) {
		y[name] = v
	}
	isLink := func(name string, _ []byte) bool { return isLink(name) }
	maps.DeleteFunc(x, isLink)
	maps.DeleteFunc(y, isLink)
	var out []pairOf
	for name, v := range x {
		if w := y[name]; !bytes.Equal(v, w) {
			out = append(out, pairOf{name, v, w})
		}
		delete(y, name)
	}
	for name, w := range y {
		out = append(out, pairOf{name, nil, w})
	}
	slices.SortFunc(out, func(p, q pairOf) int { return strings.Compare(p.name, q.name) })
	return out
}

// entryStep names a list's entry by its name, where it has one.
func entryStep(entries ...[]byte) string {
	for _, e := range entries {
		if !isObject(e) {
			continue
		}
		for field, v := range fields(e) {
			var name string
			if field == "name" && json.Unmarshal(v, &name) == nil {
				return "[" + conductor.OneLine(name) + "]"
			}
		}
	}
	return ""
}
