package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"

	"banmesh/mesh/conductor"
)

// style is whose the candidate configuration is; it changed with the releases.
type style int

const (
	styleUnknown style = iota // taken for shared: the strictest
	styleShared               // up to 5.2: one for all administrators, and both nodes
	styleNode                 // 5.3 to 5.5: one for each node, for all administrators
	styleUser                 // from 5.6: one for each user, merged at commit
)

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

// about is what is known of a node.
type about struct {
	release string // "5.6"; "" where the conductor does not say
	style   style
	dirty   bool // what it says of the candidate; it may say so of a clean one
	looked  bool // release and style were asked for

	// What the node turned out to do.
	merges    bool // PATCH of the addresses merges them
	noOption  bool // commit does not take the kind of validation
	noVersion bool // the version resource does not exist
	noPut     bool // PUT does not replace an entry

}

var releaseNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[^0-9]{0,16}([0-9]{1,3})\.([0-9]{1,3})`)
})

// styleOf tells by a release whose the candidate is.
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

// look asks for the candidate's flag and, once, for the release.
func (n *node) look(ctx context.Context) (about, error) {
	n.mu.Lock()
	ab := n.about
	n.mu.Unlock()
	var version struct {
		IsDirty bool
		Release string
	}
	if !ab.noVersion {
		b, absent, err := n.optional(ctx, "/config/version?datastore="+candidate)
		switch {
		case err != nil:
			return about{}, err
		case absent:
			ab.noVersion = true
		default:
			if err := json.Unmarshal(b, &version); err != nil {
				return about{}, fmt.Errorf("%w: GET /config/version: %w", conductor.ErrProtocol, err)
			}
		}
	}
	release := version.Release
	if release == "" && !ab.looked {
		b, absent, err := n.optional(ctx, "/version")
		if err != nil {
			return about{}, err
		}
		if !absent {
			release = releaseIn(b)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if release != "" {
		n.about.release, n.about.style = conductor.OneLine(release), styleOf(release)
	}
	n.about.looked, n.about.noVersion, n.about.dirty = true, ab.noVersion, version.IsDirty
	return n.about, nil
}

// optional reads a resource that a release may lack.
func (n *node) optional(ctx context.Context, path string) (b []byte, absent bool, err error) {
	b, absent, err = n.get(ctx, path)
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return nil, true, nil
		}
	}
	return b, absent, err
}

// releaseIn finds the release in an answer whose form is not published.
func releaseIn(b []byte) string {
	var object map[string]any
	if json.Unmarshal(b, &object) != nil {
		var list []map[string]any
		if json.Unmarshal(b, &list) != nil || len(list) == 0 {
			return ""
		}
		object = list[0]
	}
	for _, key := range []string{"release", "softwareVersion", "version"} {
		if s, ok := object[key].(string); ok && releaseNumber().MatchString(s) {
			return s
		}
	}
	return ""
}

// learn notes what the node turned out to do.
func (n *node) learn(note func(*about)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	note(&n.about)
}

func (n *node) known() about {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.about
}
