package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/conductor"
)

// style says who shares the candidate configuration; it changed with the releases.
type style int

const (
	// Whose edits a commit takes along depends on the release. Nothing in REST tells; the number of the
	// release does.
	styleUnknown style = iota // treated as shared, the strictest
	styleShared               // up to 5.2: one for all administrators, and both nodes
	styleNode                 // 5.3 to 5.5: one for each node, for all administrators
	styleUser                 // from 5.6: one for each user, merged at commit
)

// String completes the line of features that status and doctor show.
func (s style) String() string {
	switch s {
	case styleShared:
		return "one candidate for all"
	case styleNode:
		return "a candidate per node"
	case styleUser:
		return "a candidate per user"
	}
	return "whose the candidate is is not known, so taken as for all"
}

// about is what is known about a node.
type about struct {
	release string // "5.6"; "" where the conductor does not say
	style   style
	dirty   bool      // the conductor's flag for the candidate; it may be set for a clean one
	looked  time.Time // when release and style were asked for

	authority time.Time // when the whole configuration was last seen

	// What the node was found to do.
	merges    bool // PATCH of the addresses merges them
	noOption  bool // commit does not take the kind of validation
	noVersion bool // there is no version resource
	noFlag    bool // it has none, or it does not show the candidate's flag
	noPut     bool // PUT does not replace an entry
	noNesting bool // POST of a tenant takes no member in it
}

// releaseNumber is compiled at its first use, because most starts of the program need no conductor.
var releaseNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[^0-9]{0,16}([0-9]{1,3})\.([0-9]{1,3})`)
})

// styleOf returns the style of a release.
func styleOf(release string) style {
	m := releaseNumber().FindStringSubmatch(release)
	if m == nil {
		return styleUnknown
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return styleUnknown
	}
	minor, err := strconv.Atoi(m[2])
	switch {
	case err != nil:
		return styleUnknown
	case major > 5 || major == 5 && minor >= 6:
		return styleUser
	case major == 5 && minor >= 3:
		return styleNode
	}
	return styleShared
}

// askAgain is how long a missed answer is not asked for again: one wrong answer must not decide for ever.
const askAgain = 10 * time.Minute

// askSoon is the same for the release after a conductor in trouble did not tell it.
const askSoon = time.Minute

// look asks for the candidate's flag and, from time to time, for the release.
func (n *node) look(ctx context.Context) (about, error) {
	ab := n.known()
	var version version
	if ab.noFlag && n.now().Sub(ab.looked) >= askAgain {
		ab.noVersion, ab.noFlag = false, false
	}
	if !ab.noFlag {
		b, absent, err := n.optional(ctx, "/config/version?datastore="+candidate)
		switch {
		case errors.Is(err, errBlank):
			// Empty, but there: noVersion stands for a path that the API does not have.
			ab.noFlag = true
		case err != nil:
			return about{}, err
		case absent:
			ab.noVersion, ab.noFlag = true, true
		default:
			version = versionIn(b)
			ab.noFlag = !version.told
		}
	}
	release, asked, soon := version.release, false, false
	if release == "" && (ab.looked.IsZero() || ab.release == "" && n.now().Sub(ab.looked) >= askAgain) {
		var err error
		if release, soon, err = n.askRelease(ctx); err != nil {
			return about{}, err
		}
		asked = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if release != "" {
		n.about.release, n.about.style = conductor.OneLine(release), styleOf(release)
	}
	// The operator's word wins over what the release suggests.
	switch n.cfg.Candidate {
	case candidateShared:
		n.about.style = styleShared
	case candidateNode:
		n.about.style = styleNode
	case candidateUser:
		n.about.style = styleUser
	}
	if asked || ab.noFlag != n.about.noFlag || n.about.looked.IsZero() {
		if n.about.looked = n.now(); soon {
			// As if it had been asked earlier, so that the time until the next question is askSoon.
			n.about.looked = n.about.looked.Add(askSoon - askAgain)
		}
	}
	n.about.noVersion, n.about.noFlag, n.about.dirty = ab.noVersion, ab.noFlag, version.dirty
	return n.about, nil
}

// askRelease asks for the release in the places where the vendor publishes it: the system, and the routers' nodes. A
// conductor is never older than its routers, so a router's release is good enough if it is new enough. No commit depends on
// this, so unexpected answers are skipped. soon says that there was trouble that may be over soon.
func (n *node) askRelease(ctx context.Context) (release string, soon bool, err error) {
	for _, path := range []string{"/system", "/version"} {
		b, passed, err := n.hint(ctx, path)
		if err != nil {
			return "", false, err
		}
		soon = soon || passed
		if release := releaseIn(b); release != "" {
			return release, false, nil
		}
	}
	const few = 3 // routers to ask, one node of each
	b, passed, err := n.hint(ctx, "/router")
	if err != nil {
		return "", false, err
	}
	soon = soon || passed
	routers := namesIn(b)
	for _, router := range routers[:min(few, len(routers))] {
		path := "/router/" + url.PathEscape(router) + "/node"
		b, _, err := n.hint(ctx, path)
		nodes := namesIn(b)
		if err != nil || len(nodes) == 0 {
			continue // an offline router tells nothing
		}
		b, _, err = n.hint(ctx, path+"/"+url.PathEscape(nodes[0])+"/version")
		if release := releaseIn(b); err == nil && styleOf(release) == styleUser {
			return release, false, nil
		}
	}
	return "", soon, nil
}

// hint reads a resource that nothing depends on; nil if it is absent or unreadable. trouble says that the conductor failed at
// it, and err that it cannot be asked at all.
func (n *node) hint(ctx context.Context, path string) (b []byte, trouble bool, err error) {
	b, absent, err := n.optional(ctx, path)
	var status *statusError
	switch {
	case absent, err == nil:
		return b, false, nil
	case errors.As(err, &status) && status.Status >= 500:
		return nil, true, nil
	case errors.Is(err, conductor.ErrProtocol):
		return nil, false, nil
	}
	return nil, false, err
}

// namesIn reads a list of objects with a name, or of names.
func namesIn(b []byte) []string {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return nil
	}
	list, _ := listOf(v, "name")
	var out []string
	for _, v := range list {
		if object, ok := v.(map[string]any); ok {
			v = object["name"]
		}
		if name, ok := v.(string); ok && name != "" {
			out = append(out, name)
		}
	}
	return out
}

// optional reads a resource that a release may lack.
func (n *node) optional(ctx context.Context, path string) (b []byte, absent bool, err error) {
	b, absent, err = n.get(ctx, path)
	var status *statusError
	if errors.As(err, &status) {
		switch status.Status {
		// A role that may not read it is as good as a release without it: nothing depends on such a resource.
		case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return nil, true, nil
		}
	}
	return b, absent, err
}

// version is what an answer of /config/version tells. Its form is not published.
type version struct {
	told    bool // the flag was there; without it the resource is useless, for somebody may be editing the candidate
	dirty   bool // the flag
	release string
}

// versionIn reads it, but not a "version" or a number: those more likely count changes of the configuration. Mistaken for a
// release, one could make a candidate that all administrators share look like the account's own.
func versionIn(b []byte) (v version) {
	// Names are compared without case by encoding/json, and any type is taken, as the form is not published.
	var raw struct{ IsDirty, Release any }
	if json.Unmarshal(b, &raw) != nil {
		return v
	}
	switch flag := raw.IsDirty.(type) {
	case bool:
		v.dirty, v.told = flag, true
	case string:
		dirty, err := strconv.ParseBool(strings.ToLower(flag))
		v.dirty, v.told = dirty, err == nil
	case float64:
		v.dirty, v.told = flag != 0, true
	}
	if s, ok := raw.Release.(string); ok && releaseNumber().MatchString(s) {
		v.release = s
	}
	return v
}

// releaseIn finds the release in an answer about the software. Its form is not published.
func releaseIn(b []byte) string {
	var object map[string]any
	if json.Unmarshal(b, &object) != nil {
		var list []map[string]any
		if json.Unmarshal(b, &list) != nil || len(list) == 0 {
			return ""
		}
		object = list[0]
	}
	for _, key := range []string{"release", "softwareVersion", "version", "currentVersion"} {
		s, ok := object[key].(string)
		// A number loses its last zero: 5.10 reads as 5.1, which only has the candidate treated more strictly.
		if n, number := object[key].(float64); number {
			s, ok = strconv.FormatFloat(n, 'f', 1, 64), true
		}
		if ok && releaseNumber().MatchString(s) {
			return s
		}
	}
	return ""
}

// learn notes what the node was found to do.
func (n *node) learn(note func(*about)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	note(&n.about)
}

// known returns what the last look at the conductor found; nothing was found before the first.
func (n *node) known() about {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.about
}
