package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
)

var fuzzKey = conductor.Key{Tenant: "blacklist-fail2ban", Neighborhood: "internet"}

// FuzzTenant reads whatever a conductor may answer for the tenant.
func FuzzTenant(f *testing.F) {
	for _, s := range []string{
		`{"name":"blacklist-fail2ban","description":"x","member":[{"neighborhood":"internet","address":["192.0.2.1/32","192.0.2.77/24","x"]}]}`,
		`{"name":"blacklist-fail2ban","member":["internet"]}`, `{"member":[{"neighborhood":"internet","address":"10.0.0.0/8"}]}`,
		`{"member":{}}`, `[]`, `null`, `{"member":[{"neighborhood":"internet","address":[1]}]}`, `{"name":1}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		state, _, err := parseTenant(b, fuzzKey)
		if err != nil {
			if !errors.Is(err, conductor.ErrProtocol) {
				t.Fatalf("an error that is not typed: %v", err)
			}
			return
		}
		if !slices.IsSortedFunc(state.Addresses, prefixset.Compare) || len(slices.Compact(slices.Clone(state.Addresses))) != len(state.Addresses) {
			t.Fatalf("addresses are no sorted set: %v", state.Addresses)
		}
		for _, p := range state.Addresses {
			if p != p.Masked() {
				t.Fatalf("%v has host bits", p)
			}
		}
		// What is written back of it reads as the same.
		again := &conductor.Tenant{}
		for _, text := range texts(state, nil, state.Addresses) {
			again.Add(text)
		}
		again.Finish()
		if !slices.Equal(again.Addresses, state.Addresses) || !slices.Equal(again.Unread, state.Unread) {
			t.Fatalf("%v %v became %v %v", state.Addresses, state.Unread, again.Addresses, again.Unread)
		}
		d := &conductor.Difference{Running: state, Candidate: state}
		if d.Explain(""); !d.Clean() {
			t.Fatalf("differs from itself: %s", d.Detail())
		}
	})
}

// FuzzAnswer takes any body for a verdict, a refusal, a version and a list of flows.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`[]`, `[{"message":"a\nb"}]`, `{"message":"x"}`, `{"errors":[{"message":"y"}]}`, `["z"]`, `<html>`, `{"a"`,
		`{"isDirty":true,"release":"5.6"}`, `[{"version":"6.1.2"}]`, `[[[[[["x"]]]]]]`,
		`{"data":{"allRouters":{"nodes":[{"name":"r","nodes":{"nodes":[{"name":"n","flowEntries":{"nodes":[{"sessionUuid":"u","sourceIp":"192.0.2.1"}]}}]}}]}}}`} {
		f.Add([]byte(s))
	}
	source := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range append(messages(b), saying(b)...) {
			if strings.ContainsAny(m, "\n\r\x1b\x00") || len(m) > 400 {
				t.Fatalf("unfit for a log: %q", m)
			}
		}
		if len(messages(b)) > 0 && checkJSON(b) != nil {
			t.Fatal("messages of what is no JSON")
		}
		if r := cmp.Or(releaseIn(b), versionIn(b).release); r != "" && styleOf(r) == styleUnknown {
			t.Fatalf("release %q without a style", r)
		}
		if found, err := sessionsFrom(b, source); err != nil && !errors.Is(err, conductor.ErrProtocol) || len(found) > maxCuts {
			t.Fatalf("%d sessions, %v", len(found), err)
		}
	})
}

// FuzzDifference compares whatever two configurations may be.
func FuzzDifference(f *testing.F) {
	f.Add([]byte(`{"service":[{"name":"web"}]}`), []byte(`{"service":[{"name":"web","scope":"public"}],"tenant":[{"name":"blacklist-fail2ban"}]}`))
	f.Add([]byte(`{"authority":{"tenant":["blacklist-fail2ban"]}}`), []byte(`{"authority":{}}`))
	f.Add([]byte(`{"a":[1,2]}`), []byte(`{ "a" : [1] , "b":"x\"}"}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if checkJSON(a) != nil || checkJSON(b) != nil {
			return
		}
		a, errA := asAuthority(a)
		b, errB := asAuthority(b)
		for _, err := range []error{errA, errB} {
			if err != nil {
				if !errors.Is(err, conductor.ErrProtocol) {
					t.Fatalf("an error that is not typed: %v", err)
				}
				return
			}
		}
		if same := firstDifference(a, a, fuzzKey); same != "" {
			t.Fatalf("differs from itself at %s", same)
		}
		x, y := firstDifference(a, b, fuzzKey), firstDifference(b, a, fuzzKey)
		if (x == "") != (y == "") {
			t.Fatalf("one way %q, the other %q", x, y)
		}
		var v map[string]json.RawMessage
		if err := json.Unmarshal(a, &v); err != nil {
			return
		}
		n := 0
		for name, value := range fields(a) {
			n++
			if !json.Valid(value) {
				t.Fatalf("the value of %q is cut to %q", name, value)
			}
		}
		if n < len(v) {
			t.Fatalf("%d fields of %d", n, len(v))
		}
		deep(a)
	})
}

// FuzzSmall takes any release, Retry-After and fingerprint.
func FuzzSmall(f *testing.F) {
	for _, s := range []string{"5.2", "SSR-6.3.4-7.r2", "7.2.0", "x", "120", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", strings.Repeat("aB:", 31) + "00", "sha256:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		styleOf(s)
		if d := retryAfter(s, time.Now()); d < 0 || d > maxAfter {
			t.Fatalf("wait %v", d)
		}
		if pins, err := parsePins(s); err == nil {
			for _, p := range pins {
				if len(p) != 64 || strings.ToLower(p) != p {
					t.Fatalf("pin %q", p)
				}
			}
		}
	})
}
