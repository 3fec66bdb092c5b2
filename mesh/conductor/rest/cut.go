package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
)

// maxCuts bounds the sessions that one call of Cut ends.
const maxCuts = 10_000

// flowsQuery asks for the live flows of all routers; a conductor sees them all.
const flowsQuery = `{ allRouters { nodes { name nodes { nodes { name flowEntries { nodes { sessionUuid sourceIp } } } } } } }`

// A session is one live traffic session on a router's node.
type session struct{ router, node, id string }

// Cut ends the live traffic sessions that have a flow from one of the sources, on every router. It finds them by a GraphQL
// query of the flows, and ends each by DELETE /router/{router}/node/{node}/traffic/session?sessionId={id}. The user's role
// needs more rights for this than for the tenant. Sessions that have ended by themselves meanwhile do not count. Cut stops
// after 10,000 sessions and leaves the rest.
func (s *restSession) Cut(ctx context.Context, sources []netip.Prefix) (int, error) {
	n := s.n
	a, err := n.call(ctx, http.MethodPost, "/graphql", map[string]string{"query": flowsQuery})
	if err != nil {
		return 0, fmt.Errorf("read flows: %w", err)
	}
	found, err := sessionsFrom(a, sources)
	if err != nil {
		return 0, fmt.Errorf("read flows: %w", err)
	}
	ended := 0
	for _, s := range found {
		_, err := n.call(ctx, http.MethodDelete, fmt.Sprintf("/router/%s/node/%s/traffic/session?sessionId=%s",
			url.PathEscape(s.router), url.PathEscape(s.node), url.QueryEscape(s.id)), nil)
		var status *statusError
		if errors.As(err, &status) && status.Status == http.StatusNotFound {
			continue
		}
		if err != nil {
			return ended, fmt.Errorf("end a session of router %s: %w", s.router, err)
		}
		ended++
	}
	return ended, nil
}

// sessionsFrom finds each session with a flow from one of the sources, a sorted set, once.
func sessionsFrom(b []byte, sources []netip.Prefix) ([]session, error) {
	var reply struct {
		Data struct {
			AllRouters struct {
				Nodes []struct {
					Name  string
					Nodes struct {
						Nodes []struct {
							Name        string
							FlowEntries struct {
								Nodes []struct{ SessionUUID, SourceIP string }
							}
						}
					}
				}
			}
		}
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return nil, fmt.Errorf("%w: %w", conductor.ErrProtocol, err)
	}
	// GraphQL reports failures with status 200, beside what data it has. A part is not enough: sessions of the
	// sources would go on, and Cut would report success.
	if len(reply.Errors) > 0 {
		return nil, fmt.Errorf("%w: %s", conductor.ErrProtocol, conductor.OneLine(reply.Errors[0].Message))
	}
	var found []session
	seen := make(map[session]bool)
	for _, r := range reply.Data.AllRouters.Nodes {
		for _, node := range r.Nodes.Nodes {
			for _, flow := range node.FlowEntries.Nodes {
				addr, err := netip.ParseAddr(flow.SourceIP)
				if err != nil || flow.SessionUUID == "" || !covers(sources, addr.Unmap()) {
					continue
				}
				s := session{r.Name, node.Name, flow.SessionUUID}
				if !seen[s] && len(found) < maxCuts {
					seen[s] = true
					found = append(found, s)
				}
			}
		}
	}
	return found, nil
}

// covers reports whether one of the sorted prefixes contains the address.
func covers(sorted []netip.Prefix, addr netip.Addr) bool {
	// At most 32 or 128 look-ups, however many sources there are. Not down to 0: no ban is a /0.
	for bits := addr.BitLen(); bits > 0; bits-- {
		p, err := addr.Prefix(bits)
		if err != nil {
			return false
		}
		if _, ok := slices.BinarySearchFunc(sorted, p, prefixset.Compare); ok {
			return true
		}
	}
	return false
}
