package conductorsim

import (
	"fmt"
	"net/netip"
	"strings"
)

// validate finds what is wrong with a whole configuration, beyond what an edit is refused for.
func validate(root *Node) RPCErrors {
	authority := root.authority()
	if authority == nil {
		return nil
	}
	var errs RPCErrors
	add := func(path, message string) {
		if len(errs) < maxErrors {
			errs = append(errs, &RPCError{Type: "application", Tag: "operation-failed", AppTag: "data-incomplete",
				Path: path, Message: message})
		}
	}
	authorityPath := xpath("/t128:config", authority.Name, "", "")
	tenants := make(map[string]bool)
	ids := make(map[string]string)
	for t := range authority.All("tenant") {
		tenants[t.Key] = true
		if id := t.Text("id"); id != "" {
			if other, taken := ids[id]; taken {
				add(xpath(authorityPath, t.Name, "name", t.Key), fmt.Sprintf("tenant id %s is that of tenant %s", id, other))
			}
			ids[id] = t.Key
		}
	}
	for s := range authority.All("service") {
		here := xpath(authorityPath, s.Name, "name", s.Key)
		for p := range s.All("access-policy") {
			if tenant, plausible := policyTenant(p.Key); plausible && !tenants[tenant] {
				add(xpath(here, p.Name, "source", p.Key), fmt.Sprintf("access-policy source %q: there is no tenant %q", p.Key, tenant))
			}
		}
		for t := range s.All("transport") {
			for r := range t.All("port-range") {
				if end := r.Text("end-port"); end != "" && len(end) <= len(r.Key) && (len(end) < len(r.Key) || end < r.Key) {
					add(xpath(here, t.Name, "protocol", t.Key), fmt.Sprintf("port-range %s ends before it starts: %s", r.Key, end))
				}
			}
		}
	}
	return errs
}

// policyTenant returns the tenant that the source of an access-policy names. A source may also be a prefix, a
// qualified service name or a service specification; those are not looked at.
func policyTenant(source string) (tenant string, plausible bool) {
	tenant, _, _ = strings.Cut(source, "@")
	if _, err := netip.ParsePrefix(source); err == nil || strings.ContainsAny(tenant, "/:*") {
		return "", false
	}
	if _, err := netip.ParseAddr(source); err == nil {
		return "", false
	}
	return tenant, tenant != "" && tenantName().MatchString(tenant)
}
