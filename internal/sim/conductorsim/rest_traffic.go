package conductorsim

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Flow is one live traffic session as a router's node has it.
type Flow struct {
	Session      string // its id
	Router, Node string
	Source       netip.Addr
}

// traffic holds the sessions through the routers. No other lock is held together with its lock.
type traffic struct {
	mu    sync.Mutex
	flows []Flow
}

// AddFlow starts a session from source through a router's node, and returns its id.
func (s *Sim) AddFlow(router, node string, source netip.Addr) string {
	f := Flow{Session: rand.Text(), Router: router, Node: node, Source: source}
	s.traffic.mu.Lock()
	defer s.traffic.mu.Unlock()
	s.traffic.flows = append(s.traffic.flows, f)
	return f.Session
}

// Flows returns the live sessions by router, node and id.
func (s *Sim) Flows() []Flow {
	s.traffic.mu.Lock()
	defer s.traffic.mu.Unlock()
	out := slices.Clone(s.traffic.flows)
	slices.SortFunc(out, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.Router, b.Router), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Session, b.Session))
	})
	return out
}

// cut ends the session named by a call of DELETE /router/{router}/node/{node}/traffic/session?sessionId={id}; it returns
// false if there is none. A call without an id succeeds and ends nothing.
func (t *traffic) cut(path string, query url.Values) bool {
	id := query.Get("sessionId")
	if id == "" {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.flows)
	t.flows = slices.DeleteFunc(t.flows, func(f Flow) bool {
		return f.Session == id && strings.HasPrefix(path, "/router/"+url.PathEscape(f.Router)+"/node/"+url.PathEscape(f.Node)+"/")
	})
	return len(t.flows) < before
}

// graphql answers the one query that it knows: the live flows of all routers.
func (f *restFront) graphql(body []byte) (int, any, error) {
	var call struct{ Query string }
	if err := json.Unmarshal(body, &call); err != nil {
		return 0, nil, &restError{http.StatusBadRequest, "a query is expected"}
	}
	if !strings.Contains(call.Query, "allRouters") || !strings.Contains(call.Query, "flowEntries") {
		return http.StatusOK, map[string]any{"errors": []any{map[string]string{"message": "this query is not known"}}}, nil
	}
	list := func(items []any) map[string]any { return map[string]any{"nodes": items} }
	flows := f.sim.Flows()
	routers := []any{}
	for len(flows) > 0 {
		router := flows[0].Router
		nodes := []any{}
		for len(flows) > 0 && flows[0].Router == router {
			node := flows[0].Node
			entries := []any{}
			for len(flows) > 0 && flows[0].Router == router && flows[0].Node == node {
				entries = append(entries, map[string]string{"sessionUuid": flows[0].Session, "sourceIp": flows[0].Source.String()})
				flows = flows[1:]
			}
			nodes = append(nodes, map[string]any{"name": node, "flowEntries": list(entries)})
		}
		routers = append(routers, map[string]any{"name": router, "nodes": list(nodes)})
	}
	return http.StatusOK, map[string]any{"data": map[string]any{"allRouters": list(routers)}}, nil
}
