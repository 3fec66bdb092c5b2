package fail2ban

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Banned is a ban as fail2ban holds it.
type Banned struct {
	Prefix  netip.Prefix
	Start   time.Time     // to the second, rounded down
	BanTime time.Duration // negative: without end
}

// timeLayout is what `get JAIL banip --with-time` prints, in fail2ban's zone.
const timeLayout = "2006-01-02 15:04:05"

// parseBanned reads the answer to `get JAIL banip --with-time`, a line a ban:
//
//	203.0.113.7 \t2026-11-22 13:18:54 + 600 = 2026-11-22 13:28:54
//
// Whatever fail2ban bans that is no address (it can ban user names) is left out.
func parseBanned(out string, location *time.Location) ([]Banned, error) {
	var list []Banned
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		id, times, ok := strings.Cut(line, "\t")
		start, rest, ok1 := strings.Cut(times, " + ")
		seconds, end, ok2 := strings.Cut(rest, " = ")
		if !ok || !ok1 || !ok2 {
			return nil, fmt.Errorf("fail2ban's list of bans: cannot read %q", clip(line))
		}
		prefix, err := parsePrefix(strings.TrimSpace(id))
		if err != nil {
			continue
		}
		bantime, err := parseBanTime(seconds)
		if err != nil {
			return nil, fmt.Errorf("fail2ban's list of bans: %w in %q", err, clip(line))
		}
		b := Banned{Prefix: prefix, BanTime: bantime}
		b.Start, err = parseStart(start, end, b.BanTime, location)
		if err != nil {
			return nil, fmt.Errorf("fail2ban's list of bans: bad time in %q: %w", clip(line), err)
		}
		list = append(list, b)
	}
	return list, nil
}

// maxBanTime is the longest ban time that time.Duration holds with room to spare.
const maxBanTime = 200 * 365 * 24 * time.Hour

// parseBanTime reads a ban time: whole seconds, a negative number is without end.
func parseBanTime(s string) (time.Duration, error) {
	seconds, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || seconds > int64(maxBanTime/time.Second) {
		return 0, fmt.Errorf("bad ban time %q", clip(s))
	}
	return time.Duration(max(seconds, -1)) * time.Second, nil
}

// parseStart reads a local time. In the hour that the end of summer time repeats
// it has two meanings; the end, printed beside it, tells which one.
func parseStart(start, end string, bantime time.Duration, location *time.Location) (time.Time, error) {
	t, err := time.ParseInLocation(timeLayout, start, location)
	if err != nil {
		return time.Time{}, err
	}
	if bantime < 0 {
		return t, nil
	}
	for _, other := range []time.Time{t, t.Add(time.Hour), t.Add(-time.Hour)} {
		if other.Format(timeLayout) == start && other.Add(bantime).Format(timeLayout) == strings.TrimSpace(end) {
			return other, nil
		}
	}
	return t, nil // the end was rounded otherwise
}

// parsePrefix reads an address or a prefix as fail2ban prints it. IPv4 in IPv6
// is taken as IPv4, as the mesh does.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap()
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone", s)
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is wider than IPv4", s)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// formatPrefix prints what fail2ban calls a ban: an address without its length.
func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
