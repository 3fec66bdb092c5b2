package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// checkHost refuses requests for another host name. Without a token every user of this machine may read, and so may a browser
// on it. A foreign page whose name resolves to 127.0.0.1 (DNS rebinding) could then read through that browser.
func checkHost(local netip.Addr, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownHost(r.Host, local) {
			w.Header().Set("Connection", "close")
			text(w, http.StatusMisdirectedRequest, fmt.Sprintf("this address answers to localhost and %v, not to the host that was asked for; a proxy in front of it must send one of them", local))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header names a loopback address or the one listened on. It ignores the port: the browser got
// here, so it has the right one.
func ownHost(host string, local netip.Addr) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && (a.Unmap().IsLoopback() || a.Unmap() == local)
}
