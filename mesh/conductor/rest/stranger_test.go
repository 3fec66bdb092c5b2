package rest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// stranger is a conductor's API written from what the vendor publishes alone, as another hand might: it shares no code with
// the driver or the simulated conductor.
type stranger struct {
	habits

	mu        sync.Mutex
	running   map[string]any
	candidate map[string]any
	token     int    // the one in force
	used      int    // times
	at        string // the path that is answered
	order     *rand.Rand
}

// habits are those of servers that were seen.
type habits struct {
	prefix     string // before every answer: white space, a byte order mark
	kind       string // Content-Type
	created    int    // status of a POST that creates
	changed    int    // status of PATCH, PUT and DELETE; 204 has no body
	replaces   bool   // PATCH replaces lists
	noPut      bool
	bare       bool // nobody publishes /config/version and /system
	wrapped    bool // the authority comes in {"authority": …}
	noAddress  bool // an empty list is left out
	sentences  bool // validate and commit answer a sentence
	noWhole    bool // the authority shows the names of its entries only
	single     bool // a list of one value is the value
	errorsList bool // errors are {"errors":[{"message":…}]}
	version    any
	dirty      func(bool) any // how isDirty is told; nil: as it is
	nulls      bool           // what an object does not have is null, and so is an empty list
	redirects  int            // status of a redirect to the path with a slash at its end; 0: none
	location   bool           // what is created is told by its place alone
	accepted   bool           // validate and commit answer 202
	oldHTTP    bool           // the connection ends with each answer
	byName     bool           // a list of entries is an object of them, by their keys
	nameless   bool           // and these do not hold their keys
	links      bool           // each object has a link to itself
	bareShown  bool           // an address is shown without its length, and refused without it
	system     int            // status of /system; 200 with a page for people is one, too
	noVersion  bool           // /config/version answers nothing
	lives      int            // calls that a token lasts; 0: for ever
	ended      int            // status where it has ended; 302 is a redirect to the page to log in at
	absent     http.HandlerFunc
	shuffled   bool // fields and addresses come in another order each time
	extras     bool // what is created gets fields of its own
	words      bool // edits, validate and commit answer a word that is no JSON
	hangsUp    bool // the connection ends with each answer, without a word before
	flat       int  // what a POST that holds a list of objects is answered; 200 leaves the list out
	warns      bool // validate and commit list warnings beside no errors
	busy       int  // every so many calls are answered 429, and not carried out
	calls      int
	dress      func(v any, path string) any                       // what a value is sent in
	around     func(*stranger, http.HandlerFunc) http.HandlerFunc // what is done with a whole answer
	tries      int                                                // of each change, for APIs that fail now and then
}

func clone(v map[string]any) map[string]any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func newStranger(h habits) *stranger {
	s := &stranger{habits: h, order: rand.New(rand.NewPCG(1, 2))}
	s.running = map[string]any{
		"name":    "Authority37",
		"router":  []any{map[string]any{"name": "edge", "node": []any{map[string]any{"name": "node1"}}}},
		"service": []any{map[string]any{"name": "web", "accessPolicy": []any{map[string]any{"source": tenant, "permission": "deny"}}}},
		"tenant":  []any{map[string]any{"name": "office", "member": []any{map[string]any{"neighborhood": "lan", "address": []any{"10.0.0.0/8"}}}}},
	}
	s.candidate = clone(s.running)
	if s.kind == "" {
		s.kind = "application/json"
	}
	if s.created == 0 {
		s.created = http.StatusCreated
	}
	if s.changed == 0 {
		s.changed = http.StatusOK
	}
	return s
}

func (s *stranger) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", s.kind)
	v = s.told(v, s.at)
	if s.dress != nil {
		v = s.dress(v, s.at)
	}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		panic(err)
	}
	if s.shuffled {
		b = s.inAnyOrder(v)
	}
	w.WriteHeader(status)
	w.Write([]byte(s.prefix))
	for part := range slices.Chunk(b, 7) { // chunked, in small pieces
		w.Write(part)
		w.(http.Flusher).Flush()
	}
}

// inAnyOrder writes a value with the fields of each object, and the words of each list, in another order each time.
func (s *stranger) inAnyOrder(v any) []byte {
	var parts [][]byte
	shuffle := func() { s.order.Shuffle(len(parts), func(i, k int) { parts[i], parts[k] = parts[k], parts[i] }) }
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, fmt.Appendf(nil, "%q: %s", name, s.inAnyOrder(v[name])))
		}
		shuffle()
		return fmt.Appendf(nil, "{%s}", bytes.Join(parts, []byte(",\n")))
	case []any:
		for _, e := range v {
			parts = append(parts, s.inAnyOrder(e))
		}
		if len(v) > 0 {
			if _, text := v[0].(string); text {
				shuffle()
			}
		}
		return fmt.Appendf(nil, "[ %s ]", bytes.Join(parts, []byte(",")))
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *stranger) fail(w http.ResponseWriter, status int, why string) {
	if s.errorsList {
		s.answer(w, status, map[string]any{"errors": []any{map[string]any{"message": why}}})
		return
	}
	s.answer(w, status, map[string]any{"message": why})
}

func (s *stranger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/api/v1/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if s.oldHTTP {
		w.Header().Set("Connection", "close")
	}
	if s.redirects != 0 && !strings.HasSuffix(path, "/") {
		to := "/api/v1/" + path + "/"
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", to)
		w.WriteHeader(s.redirects)
		return
	}
	path = strings.TrimSuffix(path, "/")
	s.at = path
	if s.calls++; s.busy > 0 && s.calls%s.busy == 0 {
		w.Header().Set("Retry-After", "0")
		s.fail(w, http.StatusTooManyRequests, "too many requests")
		return
	}
	if s.words && (r.Method != http.MethodGet && path != "login") {
		defer func(to http.ResponseWriter) { fmt.Fprintln(to, "Done") }(w)
		w = httptest.NewRecorder()
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil && r.Method != http.MethodGet && r.Method != http.MethodDelete {
		s.fail(w, http.StatusBadRequest, "no JSON")
		return
	}
	if path == "login" {
		if body["username"] != "admin" || body["password"] != "x" {
			s.fail(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		s.token, s.used = s.token+1, 0
		s.answer(w, http.StatusOK, map[string]any{"token": fmt.Sprintf("abc.%d", s.token), "expires": 3600})
		return
	}
	if s.used++; r.Header.Get("Authorization") != fmt.Sprintf("Bearer abc.%d", s.token) || s.lives > 0 && s.used > s.lives {
		switch s.ended {
		case http.StatusFound:
			w.Header().Set("Location", "/login/")
			w.WriteHeader(s.ended)
		case 0:
			s.fail(w, http.StatusUnauthorized, "Unauthorized")
		default:
			s.fail(w, s.ended, "token has expired")
		}
		return
	}
	verdict, done := any([]any{}), http.StatusOK
	if s.accepted {
		verdict, done = nil, http.StatusAccepted
	}
	if s.warns {
		verdict = map[string]any{"errors": []any{}, "warnings": []any{map[string]any{"message": "router edge is offline"}}}
	}
	if s.sentences {
		verdict = map[string]any{"message": "Configuration committed"}
	}
	switch {
	case path == "system" && s.system == http.StatusOK:
		w.Write([]byte("<!doctype html><title>Log in</title>"))
	case path == "system" && s.system != 0:
		s.fail(w, s.system, "not now")
	case path == "config/version" && s.noVersion:
		w.WriteHeader(http.StatusNoContent)
	case path == "system" && !s.bare:
		s.answer(w, http.StatusOK, map[string]any{"softwareVersion": s.version})
	case path == "config/version" && !s.bare:
		a, _ := json.Marshal(s.running)
		b, _ := json.Marshal(s.candidate)
		s.answer(w, http.StatusOK, s.flag(!bytes.Equal(a, b)))
	case path == "config/validate":
		s.answer(w, done, verdict)
	case path == "config/commit":
		s.running = clone(s.candidate)
		s.answer(w, done, verdict)
	case path == "config/revertToRunning":
		s.candidate = clone(s.running)
		s.answer(w, http.StatusOK, map[string]any{})
	case strings.HasPrefix(path, "config/running/authority"):
		s.resource(w, r, s.running, strings.Trim(strings.TrimPrefix(path, "config/running/authority"), "/"), nil)
	case strings.HasPrefix(path, "config/candidate/authority"):
		s.resource(w, r, s.candidate, strings.Trim(strings.TrimPrefix(path, "config/candidate/authority"), "/"), body)
	default:
		s.fail(w, http.StatusNotFound, "no such resource")
	}
}

// flag is the answer of /config/version.
func (s *stranger) flag(dirty bool) any {
	if s.dirty == nil {
		return map[string]any{"isDirty": dirty}
	}
	return s.dirty(dirty)
}

// find gives the list that a path names last, the index of the entry, and what the list is in.
func find(in map[string]any, path string) (parent map[string]any, list string, at int, ok bool) {
	keys := map[string]string{"tenant": "name", "member": "neighborhood", "router": "name", "service": "name", "node": "name"}
	steps := strings.Split(path, "/")
	for i := 0; ; i += 2 {
		list = steps[i]
		if i+1 == len(steps) {
			return in, list, -1, true
		}
		entries, _ := in[list].([]any)
		at = slices.IndexFunc(entries, func(e any) bool { return e.(map[string]any)[keys[list]] == steps[i+1] })
		if at < 0 {
			return in, list, -1, false
		}
		if i+2 == len(steps) {
			return in, list, at, true
		}
		in = entries[at].(map[string]any)
	}
}

// show is how an object is told.
func (s *stranger) show(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, f := range v {
			list, isList := f.([]any)
			switch {
			case isList && len(list) == 0 && s.noAddress:
			case isList && len(list) == 0 && s.nulls:
				out[name] = nil
			case isList && len(list) == 1 && s.single && name == "address":
				out[name] = list[0]
			default:
				out[name] = s.show(f)
			}
		}
		if s.nulls {
			for _, name := range []string{"description", "address", "member"} {
				if _, has := out[name]; !has {
					out[name] = nil
				}
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = s.show(e)
		}
		return out
	}
	return v
}

// told is how a value at a path is told whole: with links, and with objects in place of lists.
func (s *stranger) told(v any, path string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, f := range v {
			out[name] = s.told(f, path+"/"+name)
		}
		if s.links {
			out["_links"] = map[string]any{"self": map[string]any{"href": path}}
		}
		return out
	case []any:
		out, byKey := make([]any, len(v)), map[string]any{}
		for i, e := range v {
			if text, ok := e.(string); ok && s.bareShown {
				e = strings.TrimSuffix(text, "/32")
			}
			out[i] = s.told(e, path)
			object, ok := out[i].(map[string]any)
			for _, field := range []string{"name", "neighborhood", "source"} {
				if key, named := object[field].(string); ok && named && s.byName {
					byKey[key] = object
					if s.nameless {
						delete(object, field)
					}
					break
				}
			}
		}
		if len(byKey) > 0 {
			return byKey
		}
		return out
	}
	return v
}

func (s *stranger) resource(w http.ResponseWriter, r *http.Request, in map[string]any, path string, body map[string]any) {
	if path == "" {
		v := s.show(in).(map[string]any)
		if s.noWhole {
			for name, list := range v {
				if list, ok := list.([]any); ok {
					for i, e := range list {
						list[i] = map[string]any{"name": e.(map[string]any)["name"]}
					}
					v[name] = list
				}
			}
		}
		if s.wrapped {
			v = map[string]any{"authority": v}
		}
		s.answer(w, http.StatusOK, v)
		return
	}
	parent, list, at, ok := find(in, path)
	if !ok && s.absent != nil && r.Method == http.MethodGet {
		s.absent(w, r)
		return
	}
	if !ok {
		s.fail(w, http.StatusNotFound, "not found: "+path)
		return
	}
	if addresses, _ := body["address"].([]any); s.bareShown && slices.ContainsFunc(addresses, func(a any) bool { return !strings.Contains(a.(string), "/") }) {
		s.fail(w, http.StatusBadRequest, "not an ip-prefix")
		return
	}
	entries, _ := parent[list].([]any)
	switch r.Method {
	case http.MethodGet:
		if at < 0 {
			if entries == nil {
				entries = []any{}
			}
			s.answer(w, http.StatusOK, s.show(entries))
			return
		}
		s.answer(w, http.StatusOK, s.show(entries[at]))
	case http.MethodPost:
		if _, nested := body["member"]; nested && s.flat == http.StatusOK {
			delete(body, "member")
		} else if nested && s.flat != 0 {
			s.fail(w, s.flat, "member is not allowed here")
			return
		}
		if s.extras {
			body["id"], body["generated"], body["tags"] = len(entries)+1000, false, []any{}
			body["meta"] = map[string]any{"revision": "7", "owner": nil}
		}
		parent[list] = append(entries, body)
		if s.location {
			w.Header().Set("Location", r.URL.Path+"/new")
			w.WriteHeader(s.created)
			return
		}
		s.answer(w, s.created, body)
	case http.MethodDelete:
		parent[list] = slices.Delete(entries, at, at+1)
		s.answer(w, s.changed, map[string]any{})
	case http.MethodPut:
		if s.noPut {
			s.fail(w, http.StatusMethodNotAllowed, "method not allowed")
			return
		}
		entries[at] = body
		s.answer(w, s.changed, body)
	case http.MethodPatch:
		entry := entries[at].(map[string]any)
		for name, v := range body {
			old, isList := entry[name].([]any)
			switch {
			case v == nil:
				delete(entry, name)
			case isList && !s.replaces:
				for _, e := range v.([]any) {
					if !slices.Contains(old, e) {
						old = append(old, e)
					}
				}
				entry[name] = old
			default:
				entry[name] = v
			}
		}
		s.answer(w, s.changed, entry)
	}
}

// addresses is what running holds of our tenant.
func (s *stranger) addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, at, ok := find(s.running, "tenant/"+tenant+"/member/"+member)
	if !ok || at < 0 {
		return nil
	}
	parent, _, _, _ := find(s.running, "tenant/"+tenant+"/member/"+member)
	var out []string
	list, _ := parent["member"].([]any)[at].(map[string]any)["address"].([]any)
	for _, a := range list {
		out = append(out, netip.MustParsePrefix(a.(string)).String())
	}
	slices.Sort(out)
	return out
}

// hangUp ends the connection with each answer, although nothing in the answer says so.
func hangUp(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		serve(answer, r)
		conn, out, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		resp := answer.Result()
		resp.ContentLength = int64(answer.Body.Len())
		resp.Write(out)
		out.Flush()
	}
}

// recorded lets an answer be made before it is sent in another way.
func recorded(next http.HandlerFunc, send func(http.ResponseWriter, *http.Request, *httptest.ResponseRecorder)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := httptest.NewRecorder()
		next(a, r)
		for name, values := range a.Header() {
			w.Header()[name] = values
		}
		send(w, r, a)
	}
}

// now answers every so many calls in another way, without carrying them out.
func now(every int64, instead func(http.ResponseWriter)) func(*stranger, http.HandlerFunc) http.HandlerFunc {
	return func(_ *stranger, next http.HandlerFunc) http.HandlerFunc {
		var n atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%every == 0 {
				instead(w)
				return
			}
			next(w, r)
		}
	}
}

// lone shows each list of one object as that object.
func lone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, f := range v {
			out[name] = lone(f)
			if list, ok := f.([]any); ok && len(list) == 1 {
				out[name] = lone(list[0])
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = lone(e)
		}
		return out
	}
	return v
}

// spelled shows IPv6 addresses in their longest form.
func spelled(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, f := range v {
			out[name] = spelled(f)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = spelled(e)
		}
		return out
	case string:
		if p, err := netip.ParsePrefix(v); err == nil && p.Addr().Is6() {
			return strings.ToUpper(p.Addr().StringExpanded()) + fmt.Sprintf("/%d", p.Bits())
		}
	}
	return v
}

// Each habit alone, with every release's candidate.
func TestAStrangersAPI(t *testing.T) {
	for name, h := range map[string]habits{
		"plain":                 {},
		"PATCH replaces":        {replaces: true},
		"no PUT":                {noPut: true},
		"204 for edits":         {changed: http.StatusNoContent, created: http.StatusNoContent},
		"200 for POST":          {created: http.StatusOK},
		"charset":               {kind: "application/json; charset=UTF-8"},
		"problem type":          {kind: "application/vnd.api+json"},
		"text type":             {kind: "text/plain"},
		"white space":           {prefix: "\r\n \t"},
		"byte order mark":       {prefix: "\ufeff"},
		"wrapped":               {wrapped: true},
		"empty lists left out":  {noAddress: true},
		"sentences":             {sentences: true},
		"names only":            {noWhole: true},
		"single values":         {single: true},
		"errors in a list":      {errorsList: true},
		"nothing published":     {bare: true},
		"5.5":                   {version: "5.5.4"},
		"letters in front":      {version: "128T-7.1.3-2.r1"},
		"SSR":                   {version: "SSR 6.3.0-107.r1"},
		"a number":              {version: 7.1},
		"a word for the flag":   {dirty: func(d bool) any { return map[string]any{"isDirty": fmt.Sprint(d)} }},
		"a number for it":       {dirty: func(d bool) any { return map[string]any{"isDirty": map[bool]int{true: 1}[d]} }},
		"null for it":           {dirty: func(bool) any { return map[string]any{"isDirty": nil} }},
		"a list for it":         {dirty: func(bool) any { return []any{} }},
		"no flag":               {dirty: func(bool) any { return map[string]any{"datastore": "candidate", "release": 7} }},
		"no flag, names only":   {noWhole: true, dirty: func(bool) any { return map[string]any{} }},
		"nulls":                 {nulls: true},
		"307":                   {redirects: http.StatusTemporaryRedirect},
		"308":                   {redirects: http.StatusPermanentRedirect},
		"a place":               {location: true},
		"202":                   {accepted: true},
		"no keepalive":          {oldHTTP: true},
		"objects by name":       {byName: true},
		"by name alone":         {byName: true, nameless: true},
		"links":                 {links: true},
		"no lengths shown":      {bareShown: true},
		"a page for /system":    {system: http.StatusOK},
		"500 for /system":       {system: http.StatusInternalServerError},
		"403 for /system":       {system: http.StatusForbidden},
		"nothing as a version":  {noVersion: true},
		"short tokens":          {lives: 5},
		"a redirect at its end": {lives: 20, ended: http.StatusFound},
		"403 at its end":        {lives: 40, ended: http.StatusForbidden},
		"a page for what is absent": {absent: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte("<html>404 Not Found</html>"))
		}},
		"another order":              {shuffled: true},
		"fields of its own":          {extras: true},
		"and PATCH replaces":         {extras: true, replaces: true},
		"words":                      {words: true},
		"nothing inside what is new": {flat: http.StatusBadRequest},
		"which fails":                {flat: http.StatusInternalServerError},
		"or is left out":             {flat: http.StatusOK},
		"hangs up":                   {hangsUp: true},
		"warnings":                   {warns: true},
		"429 now and then":           {busy: 23},
		"400 for what is absent":     {absent: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }},
		"null for what is absent":    {absent: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("null")) }},
		"{} for what is absent":      {absent: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) }},
		"[] for what is absent":      {absent: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("[]")) }},
		"gzip": {around: func(_ *stranger, next http.HandlerFunc) http.HandlerFunc {
			return recorded(next, func(w http.ResponseWriter, r *http.Request, a *httptest.ResponseRecorder) {
				w.Header().Set("Content-Encoding", "gzip")
				w.WriteHeader(a.Code)
				if a.Code == http.StatusNoContent {
					return
				}
				z := gzip.NewWriter(w)
				z.Write(a.Body.Bytes())
				z.Close()
			})
		}},
		"503 now and then": {tries: 4, around: now(23, func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		})},
		"502 now and then": {tries: 4, around: now(41, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadGateway)
			w.Write([]byte("<html>Bad Gateway</html>"))
		})},
		"answers cut now and then": {tries: 6, around: func(_ *stranger, next http.HandlerFunc) http.HandlerFunc {
			n := 0
			return recorded(next, func(w http.ResponseWriter, r *http.Request, a *httptest.ResponseRecorder) {
				b := a.Body.Bytes()
				if n++; n%41 == 0 {
					w.Write(b[:len(b)/2])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(a.Code)
				w.Write(b)
			})
		}},
		"HTTP/1.0": {around: func(_ *stranger, next http.HandlerFunc) http.HandlerFunc {
			return recorded(next, func(w http.ResponseWriter, r *http.Request, a *httptest.ResponseRecorder) {
				conn, out, err := w.(http.Hijacker).Hijack()
				if err != nil {
					panic(err)
				}
				defer conn.Close()
				fmt.Fprintf(out, "HTTP/1.0 %d whatever\r\nContent-Type: application/json\r\n\r\n%s", a.Code, a.Body)
				out.Flush()
			})
		}},
		"a candidate of the login": {lives: 60, tries: 2, around: func(s *stranger, next http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/login") {
					s.mu.Lock()
					s.candidate = clone(s.running)
					s.mu.Unlock()
				}
				next(w, r)
			}
		}},
		"lone entries as objects": {dress: func(v any, _ string) any { return lone(v) }},
		"a wrapped authority with more": {dress: func() func(any, string) any {
			n := 0
			return func(v any, path string) any {
				n++
				if strings.HasSuffix(path, "/authority") {
					return map[string]any{"authority": v, "status": "ok", "took": n}
				}
				return v
			}
		}()},
		"everything in an envelope": {dress: func() func(any, string) any {
			n := 0
			return func(v any, path string) any {
				n++
				if strings.HasPrefix(path, "config/running") || strings.HasPrefix(path, "config/candidate") {
					return map[string]any{"data": v, "status": "ok", "took": n}
				}
				return v
			}
		}()},
		"entries under their list's name": {dress: func(v any, path string) any {
			steps := strings.Split(strings.TrimPrefix(path, "config/"), "/")
			if n := len(steps); n >= 4 && n%2 == 0 {
				return map[string]any{steps[n-2]: v}
			}
			return v
		}},
		"entries in a list of one": {dress: func(v any, path string) any {
			steps := strings.Split(strings.TrimPrefix(path, "config/"), "/")
			if n := len(steps); n >= 4 && n%2 == 0 {
				return []any{v}
			}
			return v
		}},
		"long spellings": {dress: func(v any, _ string) any { return spelled(v) }},
		"escapes": {around: func(_ *stranger, next http.HandlerFunc) http.HandlerFunc {
			return recorded(next, func(w http.ResponseWriter, r *http.Request, a *httptest.ResponseRecorder) {
				w.WriteHeader(a.Code)
				w.Write(bytes.ReplaceAll(bytes.ReplaceAll(a.Body.Bytes(), []byte("/"), []byte(`\/`)), []byte("blacklist"), []byte(`\u0062lacklist`)))
			})
		}},
		"numbers as texts": {dirty: func(d bool) any {
			return map[string]any{"isDirty": map[bool]string{true: "1", false: "0"}[d], "version": "17"}
		}},
		"nothing for what is absent": {absent: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if h.version == nil {
				h.version = "7.1.3"
			}
			s := newStranger(h)
			handler := s.ServeHTTP
			if s.hangsUp {
				handler = hangUp(handler)
			}
			if s.around != nil {
				handler = s.around(s, handler)
			}
			r := fake(t, handler, func(cfg *rest.Config) { cfg.MaxReply = 1 << 20 })
			want := func(step string, texts ...string) {
				t.Helper()
				if got := s.addresses(); !slices.Equal(got, texts) {
					t.Errorf("%s: running has %v, want %v", step, got, texts)
				}
			}
			do := func(step string, add, remove []string) {
				t.Helper()
				for try := 1; ; try++ {
					err := change(t.Context(), r, conductor.Permit{}, prefixes(add...), prefixes(remove...))
					if err == nil {
						break
					}
					t.Log(step, err)
					if try >= max(s.tries, 1) {
						t.Fatalf("%s: %v", step, err)
					}
				}
			}
			read := func(step string, exists bool, n int) {
				t.Helper()
				got, err := r.Read(t.Context())
				for try := 1; err != nil && try < s.tries; try++ {
					got, err = r.Read(t.Context())
				}
				if err != nil || got.Exists != exists || len(got.Addresses) != n {
					t.Errorf("%s: %+v, %v", step, got, err)
				}
			}
			read("before it is there", false, 0)
			do("create", []string{"192.0.2.1/32"}, nil)
			want("create", "192.0.2.1/32")
			do("add", []string{"192.0.2.2/32", "2001:db8::/48"}, nil)
			want("add", "192.0.2.1/32", "192.0.2.2/32", "2001:db8::/48")
			do("both", []string{"192.0.2.3/32"}, []string{"192.0.2.2/32"})
			want("both", "192.0.2.1/32", "192.0.2.3/32", "2001:db8::/48")
			read("with three", true, 3)
			names, err := r.Denied(t.Context())
			for try := 1; err != nil && try < s.tries; try++ {
				names, err = r.Denied(t.Context())
			}
			if err != nil || !slices.Equal(names, []string{"web"}) {
				t.Errorf("denied: %v, %v", names, err)
			}
			do("last", nil, []string{"192.0.2.1/32", "192.0.2.3/32", "2001:db8::/48"})
			want("last")
			s.mu.Lock()
			if a, b := fmt.Sprint(s.running), fmt.Sprint(s.candidate); a != b {
				t.Errorf("the candidate is %s, running %s", b, a)
			}
			if !strings.Contains(fmt.Sprint(s.running), "10.0.0.0/8") {
				t.Error("another tenant is gone")
			}
			s.mu.Unlock()
		})
	}
}

// A node that sends everybody to the other one is left for that, and the token goes there by no redirect.
func TestAStandbyThatRedirectsIsLeftForTheOtherNode(t *testing.T) {
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		s := newStranger(habits{version: "7.1.3"})
		active := httptest.NewTLSServer(s)
		defer active.Close()
		r := fake(t, func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, active.URL+req.URL.String(), status)
		}, func(cfg *rest.Config) { cfg.URLs = append(cfg.URLs, active.URL) })
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		if got := s.addresses(); len(got) != 1 {
			t.Errorf("%d: running has %v", status, got)
		}
	}
}
