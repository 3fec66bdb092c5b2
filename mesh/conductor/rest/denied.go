package rest

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"banmesh/mesh/conductor"
)

// policyNames are the spellings of a service's list of access policies in different releases.
var policyNames = [...]string{"access-policy", "accessPolicy"}

// Denied lists the enabled services of running that deny our tenant, sorted.
func (s *restSession) Denied(ctx context.Context) ([]string, error) {
	return s.n.deniers(ctx, s.key.Tenant)
}

// deniers checks all services. If the list shows only names, it asks for each service separately.
func (n *node) deniers(ctx context.Context, tenant string) ([]string, error) {
	list := authorityPath(running) + "/service"
	var answer any
	if absent, err := n.decode(ctx, list, &answer); absent || err != nil {
		return nil, err
	}
	entries, ok := listOf(answer, "name")
	if !ok {
		return nil, fmt.Errorf("%w: the services are no list", conductor.ErrProtocol)
	}
	var services []service
	deep := false
	for _, entry := range entries {
		s, err := readService(entry)
		if err != nil {
			return nil, err
		}
		// One service that shows its policies tells that this release does; those that show none have none then.
		deep = deep || s.shown
		services = append(services, s)
	}
	var names []string
	for _, s := range services {
		path := list + "/" + url.PathEscape(s.name)
		if !deep {
			if err := n.openService(ctx, path, &s); err != nil {
				return nil, err
			}
		}
		denies, err := n.denies(ctx, path, s, tenant)
		if err != nil {
			return nil, err
		}
		if denies {
			names = append(names, s.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// service holds the parts of a service that matter here.
type service struct {
	name     string
	disabled bool
	shown    bool   // the policies were shown
	spelling string // of the list of policies
	policies []any
}

// readService parses an entry of the list of services: an object, or only its name.
func readService(entry any) (service, error) {
	switch v := entry.(type) {
	case string:
		return service{name: v}, nil
	case map[string]any:
		s := service{spelling: policyNames[0]}
		s.name, _ = v["name"].(string)
		if s.name == "" {
			return s, fmt.Errorf("%w: a service has no name", conductor.ErrProtocol)
		}
		// A service is enabled unless it says otherwise, also in text.
		s.disabled = v["enabled"] == false || v["enabled"] == "false"
		for _, spelling := range policyNames {
			if list, ok := listOf(v[spelling], "source"); ok {
				s.shown, s.spelling, s.policies = true, spelling, list
			}
		}
		return s, nil
	}
	return service{}, fmt.Errorf("%w: a service is neither an object nor a name", conductor.ErrProtocol)
}

// openService reads one service, and separately its policies if it does not show them.
func (n *node) openService(ctx context.Context, path string, s *service) error {
	var object map[string]any
	absent, err := n.decode(ctx, path, &object)
	if absent || err != nil || object == nil { // removed meanwhile; null says so too
		return err
	}
	if _, ok := object["name"]; !ok {
		object["name"] = s.name
	}
	if *s, err = readService(object); err != nil || s.shown {
		return err
	}
	for _, spelling := range policyNames {
		var list []any
		absent, err := n.decode(ctx, path+"/"+spelling, &list)
		if err != nil {
			return err
		}
		if !absent {
			s.shown, s.spelling, s.policies = true, spelling, list
			return nil
		}
	}
	return nil
}

// denies reports whether a service is enabled and denies the tenant.
func (n *node) denies(ctx context.Context, path string, s service, tenant string) (bool, error) {
	if s.disabled {
		return false, nil
	}
	for _, entry := range s.policies {
		policy, ok := entry.(map[string]any)
		if !ok && entry == tenant { // only its source
			if _, err := n.decode(ctx, path+"/"+s.spelling+"/"+url.PathEscape(tenant), &policy); err != nil {
				return false, err
			}
			policy = map[string]any{"source": tenant, "permission": policy["permission"]}
		}
		if policy["source"] == tenant && policy["permission"] == "deny" {
			return true, nil
		}
	}
	return false, nil
}

// decode reads a resource that a release may lack.
func (n *node) decode(ctx context.Context, path string, v any) (absent bool, err error) {
	b, absent, err := n.get(ctx, path)
	if absent || err != nil {
		return absent, err
	}
	return false, unmarshal(b, v)
}
