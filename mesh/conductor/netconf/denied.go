package netconf

import (
	"context"
	"encoding/xml"
	"fmt"
	"slices"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// nsService is the namespace of services and their access policies.
const nsService = "http://128technology.com/t128/config/service-config"

var (
	// Elements of 128T's service-config model, as far as they decide whom a service denies.
	nameService    = xml.Name{Space: nsService, Local: "service"}
	nameSvcName    = xml.Name{Space: nsService, Local: "name"}
	nameSvcPolicy  = xml.Name{Space: nsService, Local: "access-policy"}
	nameSvcSource  = xml.Name{Space: nsService, Local: "source"}
	nameSvcPermit  = xml.Name{Space: nsService, Local: "permission"}
	nameSvcEnabled = xml.Name{Space: nsService, Local: "enabled"}
)

// Denied lists the enabled services of running that deny our tenant, sorted.
func (s *session) Denied(ctx context.Context) ([]string, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	service := netconfclient.El("service", netconfclient.El("name"), netconfclient.El("enabled"), netconfclient.El("access-policy")).In(nsService)
	r, err := s.nc.GetConfig(ctx, netconfclient.RunningStore, netconfclient.Filter{Content: []netconfclient.Element{
		netconfclient.El("config", netconfclient.El("authority", service).In(nsAuthority)).In(nsConfig),
	}})
	if err != nil {
		return nil, refused("get-config", err)
	}
	names, err := deniers(r, s.cfg.Tenant)
	if err != nil {
		return nil, s.breach(err)
	}
	return names, nil
}

// deniers reads the services of a reply. A server that ignores part of the filter sends more, which does no harm.
func deniers(r *netconfclient.Reply, tenant string) ([]string, error) {
	d, err := r.Data()
	if err != nil || d == nil {
		return nil, err
	}
	var names []string
	for depth := 0; ; {
		tok, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: services: %w", conductor.ErrProtocol, err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			depth++
			if depth != 3 || tok.Name != nameService {
				continue
			}
			items, err := captureItems(d, tok.Name)
			if err != nil {
				return nil, fmt.Errorf("%w: services: %w", conductor.ErrProtocol, err)
			}
			depth--
			if name, ok := denies(items, tenant); ok {
				names = append(names, name)
			}
		case xml.EndElement:
			if depth == 0 { // the end of the data itself
				slices.Sort(names)
				return slices.Compact(names), nil
			}
			depth--
		}
	}
}

// denies reports whether a service is enabled and denies the tenant.
func denies(service []item, tenant string) (name string, ok bool) {
	enabled := true
	for child := range children(service) {
		switch child[0].name {
		case nameSvcName:
			name = child[0].text
		case nameSvcEnabled:
			enabled = child[0].text != "false"
		case nameSvcPolicy:
			var source, permission string
			for field := range children(child) {
				switch field[0].name {
				case nameSvcSource:
					source = field[0].text
				case nameSvcPermit:
					permission = field[0].text
				}
			}
			// A service has a policy for each source, and one that denies ours is enough.
			ok = ok || source == tenant && permission == "deny"
		}
	}
	return name, ok && enabled && name != ""
}
