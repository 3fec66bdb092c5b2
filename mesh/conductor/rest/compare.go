package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
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

// get reads a resource; absent is a 404 of the API. One with a page for people comes from something before it.
func (n *node) get(ctx context.Context, path string) (b []byte, absent bool, err error) {
	return n.getInto(ctx, path, nil)
}

// getInto is get with room for the answer, if it fits.
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
	case len(bytes.TrimSpace(a.body)) == 0:
		return nil, false, fmt.Errorf("%w: GET %s %w", conductor.ErrProtocol, pathOnly(path), errBlank)
	}
	return a.body, false, nil
}

// The resources of a datastore.
func authorityPath(store string) string { return "/config/" + store + "/authority" }
func tenantPath(store string, key conductor.Key) string {
	return authorityPath(store) + "/tenant/" + url.PathEscape(key.Tenant)
}
func memberPath(store string, key conductor.Key) string {
	return tenantPath(store, key) + "/member/" + url.PathEscape(key.Neighborhood)
}

// readTenant reads our tenant. That it is absent is believed only where the authority does not show it either: one wrong
// answer must not look like a tenant that somebody emptied.
func (n *node) readTenant(ctx context.Context, store string, key conductor.Key) (*conductor.Tenant, error) {
	b, absent, odd := n.get(ctx, tenantPath(store, key))
	if odd == nil && !absent {
		if !isVoid(b) {
			return n.tenantFrom(ctx, store, key, b)
		}
		_, _, odd = parseTenant(b, key)
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
	return &conductor.Tenant{}, nil
}

// mayMeanAbsent tells whether an answer that is no tenant can be how an API says that there is none: nothing, a page, or a
// refusal of the path. The authority decides.
func mayMeanAbsent(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.Status == http.StatusNotFound || status.Status == http.StatusBadRequest
	}
	return errors.Is(err, errBlank) || errors.Is(err, errNoName)
}

// isVoid tells whether a value holds nothing.
func isVoid(b []byte) bool {
	switch b = bytes.TrimSpace(b); {
	case isObject(b):
		return blank(b[1:])[0] == '}'
	case isArray(b):
		return blank(b[1:])[0] == ']'
	}
	return string(b) == "null"
}

// authority reads a configuration whole, into a buffer that is large enough or is not needed. One that shows no list of
// anything is an empty one only where the list of tenants says so too: a real authority has routers at least, and a page
// that merely looks like one must not make a tenant absent. One that was there a moment ago has not gone.
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
	if pages(b, 0) {
		return nil, false, fmt.Errorf("%w: GET %s shows no whole list of tenants", conductor.ErrProtocol, path)
	}
	if !lists(b, 0) {
		if err := n.emptyAuthority(ctx, path); err != nil {
			return nil, false, err
		}
	}
	n.learn(func(ab *about) { ab.authority = n.now() })
	return b, false, nil
}

// emptyAuthority asks for the list of tenants of an authority that shows none, and fails unless it is an empty list.
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

// lists tells whether an authority, or what that is wrapped in, shows any of its lists.
func lists(b []byte, depth int) bool {
	for name, v := range fields(b) {
		switch {
		case slices.Contains(notLists[:], name):
		case isArray(v), isObject(v) && name == "tenant":
			return true
		case slices.Contains(wrappers[:], name) && isObject(v) && depth < maxWrappers && lists(v, depth+1):
			return true
		}
	}
	return false
}

// pages tells whether the tenants come neither as a list nor as an object of tenants by their names: a page of them would make
// ours absent.
func pages(b []byte, depth int) bool {
	for name, v := range fields(b) {
		switch {
		case name == "tenant" && isObject(v):
			for _, entry := range fields(v) {
				if !isObject(entry) {
					return true
				}
			}
		case slices.Contains(wrappers[:], name) && isObject(v) && depth < maxWrappers && pages(v, depth+1):
			return true
		}
	}
	return false
}

// notLists are the names of what an error comes in.
var notLists = [...]string{"message", "messages", "error", "errors", "detail"}

// tenantFrom makes our tenant of its object; its member is read by itself where that does not show it.
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

// asAuthority returns the object of an authority, or what an authority is wrapped in. An error that came with a status of
// success is not one.
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

// compare compares candidate and running whole. The order of lists counts, except that of our addresses: an
// administrator's edit may be nothing but a new order. Where the two whole configurations show our tenant it is taken out
// of them, so that one picture of each is judged.
func (n *node) compare(ctx context.Context, key conductor.Key) (*conductor.Difference, error) {
	pair := n.room.take()
	defer n.room.give(pair)
	a, b, shown, err := n.both(ctx, pair, key)
	if err != nil {
		return nil, err
	}
	d := &conductor.Difference{Text: maphash.Bytes(textSeed, b)}
	if !bytes.Equal(a, b) {
		d.Foreign = firstDifference(a, b, key)
	}
	of := func(store string, whole []byte) (*conductor.Tenant, error) {
		t, there := tenantOf(whole, key)
		switch {
		case shown && !there:
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
		// What cannot be seen cannot be compared: the conductor's own word has to do.
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

// textSeed is of this process.
var textSeed = maphash.MakeSeed()

// room keeps for a while the memory of what was compared last: a configuration can have 20 MB, and two of them at each
// attempt would be as much garbage.
type room struct {
	mu   sync.Mutex
	pair *[2][]byte
	drop *time.Timer
}

const roomFor = time.Minute

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
	r.drop = time.AfterFunc(roomFor, func() { r.take() })
}

// both reads running and candidate whole, in the same form, into the pair's room. shown says that they hold more than the
// names of their entries, or have none.
func (n *node) both(ctx context.Context, pair *[2][]byte, key conductor.Key) (a, b []byte, shown bool, err error) {
	keep := func(i int, b []byte) {
		if cap(b) > cap(pair[i]) {
			pair[i] = b[:0]
		}
	}
	whole := func(i int, store string) ([]byte, error) {
		b, absent, err := n.authority(ctx, store, pair[i])
		if absent && err == nil { // a new conductor has none; one wrong answer looks the same
			b, _, err = n.authority(ctx, store, pair[i])
		}
		keep(i, b)
		return b, err
	}
	if a, err = whole(0, running); err != nil {
		return nil, nil, false, err
	}
	if cap(pair[1]) < len(a) {
		pair[1] = make([]byte, 0, len(a)+len(a)/16+512) // most often both are alike
	}
	if b, err = whole(1, candidate); err != nil {
		return nil, nil, false, err
	}
	// A new conductor has nothing but what we have put into the candidate, or into running.
	if lists(a, 0) != lists(b, 0) && (holdsOthers(a, key, 0) || holdsOthers(b, key, 0)) {
		return nil, nil, false, fmt.Errorf("%w: one of running and candidate shows no list of anything", conductor.ErrProtocol)
	}
	if deep(a) || deep(b) {
		return a, b, true, nil
	}
	// Some releases give the resource without what is inside its entries, and the whole only as an export.
	export := func(store string) ([]byte, error) {
		b, absent, err := n.get(ctx, "/config/getJSON?source="+store)
		if err != nil || absent {
			return nil, err
		}
		if b, err = asAuthority(b); err != nil || lists(b, 0) {
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

// deep tells whether an authority shows what is inside of its lists' entries.
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

// wrappers are the objects that an authority comes in, by their names.
var wrappers = [...]string{"authority", "config", "datastore"}

const maxWrappers = 4 // one in the other

// tenantOf finds our tenant in an authority, or in what that is wrapped in: the object, or no more than its name.
func tenantOf(whole []byte, key conductor.Key) (b []byte, there bool) {
	return findTenant(whole, key, 0)
}

func findTenant(whole []byte, key conductor.Key, depth int) ([]byte, bool) {
	for name, v := range fields(whole) {
		switch {
		case name == "tenant" && isArray(v):
			for entry := range entries(v) {
				if isOurs(entry, key) {
					return entry, true
				}
			}
		case name == "tenant" && isObject(v): // by their names
			for name, entry := range fields(v) {
				if name == key.Tenant && isOurs(entry, key) {
					return entry, true
				} else if name == key.Tenant {
					return nil, true
				}
			}
		case slices.Contains(wrappers[:], name) && isObject(v) && depth < maxWrappers:
			if b, there := findTenant(v, key, depth+1); there {
				return b, true
			}
		}
	}
	return nil, false
}

// holdsOthers tells whether an authority holds an entry of any list that is not our tenant.
func holdsOthers(whole []byte, key conductor.Key, depth int) bool {
	for name, v := range fields(whole) {
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
		case slices.Contains(wrappers[:], name) && isObject(v) && depth < maxWrappers:
			if holdsOthers(v, key, depth+1) {
				return true
			}
		case isObject(v):
			return true
		}
	}
	return false
}

// isOurs tells whether an entry of the list of tenants is ours, or its name.
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

func isText(b []byte, text string) bool {
	var s string
	return len(b) > 0 && b[0] == '"' && json.Unmarshal(b, &s) == nil && s == text
}

// firstDifference names where two configurations, running and candidate, differ first outside of our tenant, "" where
// they do not. It gives no value but the names of list entries: others can be secret.
func firstDifference(a, b []byte, key conductor.Key) string {
	if place := objectDifference("", a, b, key, 0); place != "" {
		return "the candidate differs at " + conductor.OneLine(place)
	}
	return ""
}

// objectDifference compares two authorities, or what an authority is wrapped in.
func objectDifference(path string, a, b []byte, key conductor.Key, depth int) string {
	for _, f := range bothFields(a, b) {
		at := path + "/" + f.name
		place := ""
		switch {
		case slices.Contains(wrappers[:], f.name) && depth < maxWrappers && (isObject(f.a) || f.a == nil) && (isObject(f.b) || f.b == nil):
			place = objectDifference(at, orEmpty(f.a, "{}"), orEmpty(f.b, "{}"), key, depth+1)
		case f.name == "tenant" && (isArray(f.a) || f.a == nil) && (isArray(f.b) || f.b == nil):
			place = listDifference(at, orEmpty(f.a, "[]"), orEmpty(f.b, "[]"), func(entry []byte) bool { return isOurs(entry, key) })
		case f.name == "tenant" && (isObject(f.a) || f.a == nil) && (isObject(f.b) || f.b == nil): // by their names
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

func orEmpty(b []byte, empty string) []byte {
	if b == nil {
		return []byte(empty)
	}
	return b
}

// difference finds the first place, by name, at which two values differ; nil is an absent one. It decodes nothing but
// single values that are not the same text: a list decoded whole takes ten times its room.
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

// sameValue compares two values that can be spelled in different ways.
func sameValue(a, b []byte) bool {
	if isObject(a) != isObject(b) || isArray(a) != isArray(b) {
		return false
	}
	var x, y any
	return unmarshal(a, &x) == nil && unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// listDifference compares two lists entry by entry, in their order, without those that skip names.
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

// pairOf is a field of two objects; nil where one lacks it.
type pairOf struct {
	name string
	a, b []byte
}

// isLink tells whether a field is no configuration but where it was read, which is another place for each datastore: HAL's
// links, and the annotations of RFC 7952.
func isLink(name string) bool { return name == "_links" || strings.HasPrefix(name, "@") }

// bothFields lists the fields of two objects that are not the same text, by name.
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
