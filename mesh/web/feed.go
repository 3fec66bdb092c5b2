package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// format is the format of a feed.
type format uint8

const (
	plain format = iota // a prefix per line
	inJSON
	srx      // an archive for Junos
	nft      // for nft -f
	ipset    // for ipset restore
	mikrotik // scripts for RouterOS, one per page
)

var formats = map[string]format{
	"plain": plain, "json": inJSON, "srx": srx, "srx.tgz": srx, "nft": nft, "ipset": ipset, "mikrotik": mikrotik,
}

// variant is one of the feeds that can be requested.
type variant struct {
	format    format
	family    uint8 // 4, 6, or 0 for both
	aggregate bool  // the fewest prefixes that cover the same addresses
	cidr      bool  // single addresses have a length too; in JSON they always do
	gzip      bool  // Content-Encoding
}

// ServeHTTP answers GET and HEAD of /feed/FORMAT.
//
// The feed holds store.Store.Effective: what is banned, without what is allowed, never banned or held on this router. It is in
// the order of the addresses, IPv4 first.
//
//	family=4, family=6   only that family
//	aggregate=1          the fewest prefixes that cover the same addresses
//	cidr=1               192.0.2.1/32 instead of 192.0.2.1 (plain, srx)
//	page=1               the first page, which names the next (mikrotik)
//
// Unknown parameters are refused: a misspelled filter must not give the whole set.
func (f *feeds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form, ok := formats[r.PathValue("format")]
	if !ok {
		text(w, http.StatusNotFound, "no such feed: there are /feed/plain, json, srx, nft, ipset and mikrotik")
		return
	}
	if form == mikrotik {
		f.pages.serve(w, r, f)
		return
	}
	v, err := parseVariant(form, r.URL.Query())
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return
	}
	v.gzip = form != srx && acceptsGzip(r.Header.Values("Accept-Encoding"))
	// Most pollers send the tag of what they have and get a 304, so that the body need not be made for them.
	needBody := r.Method != http.MethodHead && r.Header.Get("If-None-Match") == "" && r.Header.Get("If-Modified-Since") == ""
	e, err := f.get(r.Context(), v, needBody)
	if err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	h := w.Header()
	h.Set("ETag", e.etag)
	h.Set("Last-Modified", e.modified.UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "private, no-cache") // may be cached, but must be revalidated each time
	if form != srx {
		h.Set("Vary", "Accept-Encoding")
	}
	if unchanged(r.Header, e.etag, e.modified) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if e.body == nil && r.Method != http.MethodHead { // the body was released, and is needed after all
		if e, err = f.get(r.Context(), v, true); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		h.Set("ETag", e.etag)
		h.Set("Last-Modified", e.modified.UTC().Format(http.TimeFormat))
	}
	h.Set("Content-Type", contentTypes[form])
	if v.gzip {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", fmt.Sprint(e.size))
	if r.Method != http.MethodHead {
		_, _ = w.Write(e.body)
	}
}

var contentTypes = map[format]string{plain: "text/plain; charset=utf-8", inJSON: "application/json", srx: "application/gzip", nft: "text/plain; charset=utf-8", ipset: "text/plain; charset=utf-8"}

// parseVariant refuses what it does not know: a mistyped parameter would otherwise give a firewall another
// list than it was set up for.
func parseVariant(form format, q url.Values) (variant, error) {
	v := variant{format: form}
	for key, values := range q {
		if len(values) != 1 {
			return v, fmt.Errorf("%s is given %d times", key, len(values))
		}
		value, ok := values[0], true
		switch key {
		case "family":
			ok = value == "4" || value == "6"
			if ok {
				v.family = value[0] - '0'
			}
		case "aggregate":
			v.aggregate, ok = parseFlag(value)
		case "cidr":
			v.cidr, ok = parseFlag(value)
		default:
			return v, fmt.Errorf("%q is unknown: there are family, aggregate and cidr", key)
		}
		if !ok {
			return v, fmt.Errorf("%s=%q: want family=4, family=6, aggregate=1 or cidr=1", key, value)
		}
	}
	v.cidr = v.cidr && (form == plain || form == srx)
	// The kernel's interval sets refuse overlapping elements.
	// A default for the others would change what a reader can find in the list by its text.
	v.aggregate = v.aggregate || form == nft
	return v, nil
}

func parseFlag(s string) (on, ok bool) { return s == "1", s == "1" || s == "0" }

// acceptsGzip parses Accept-Encoding (RFC 9110 §12.5.3): gzip or * with a weight other than zero.
func acceptsGzip(headers []string) bool {
	star, gzip, named := false, false, false
	for _, item := range strings.Split(strings.Join(headers, ","), ",") {
		coding, params, _ := strings.Cut(item, ";")
		name, weight, _ := strings.Cut(strings.TrimSpace(params), "=")
		on := !(strings.EqualFold(strings.TrimSpace(name), "q") && strings.Trim(strings.TrimSpace(weight), "0.") == "")
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			gzip, named = on, true
		case "*":
			star = on
		}
	}
	return gzip || star && !named
}

// unchanged reports whether the caller has this content already (RFC 9110 §13.1), by its entity tag, or by the date if it
// sends no tag.
func unchanged(h http.Header, etag string, modified time.Time) bool {
	if tags := h.Values("If-None-Match"); len(tags) > 0 {
		return slices.ContainsFunc(strings.Split(strings.Join(tags, ","), ","), func(tag string) bool {
			tag = strings.TrimSpace(tag)
			return tag == "*" || strings.TrimPrefix(tag, "W/") == etag
		})
	}
	since, err := http.ParseTime(h.Get("If-Modified-Since"))
	return err == nil && !modified.After(since)
}
