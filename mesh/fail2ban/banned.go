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

// timeLayout is the format of `get JAIL banip --with-time`, in fail2ban's time zone.
// It names no zone.
const timeLayout = "2006-01-02 15:04:05"

// parseBanned reads the answer to `get JAIL banip --with-time`, a line a ban:
//
//	203.0.113.7 \t2026-11-22 13:18:54 + 600 = 2026-11-22 13:28:54
//
// Bans of anything but addresses (fail2ban can ban user names) are left out.
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

// parseBanTime reads a ban time in whole seconds; a negative one is without end.
func parseBanTime(s string) (time.Duration, error) {
	seconds, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || seconds > int64(maxBanTime/time.Second) {
		return 0, fmt.Errorf("bad ban time %q", clip(s))
	}
	return time.Duration(max(seconds, -1)) * time.Second, nil
}

// parseStart reads a local time. In the hour that the end of summer time repeats, it is ambiguous; the end, printed beside it,
// decides.
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
	return t, nil // the end was rounded differently
}

// parsePrefix reads an address or a prefix as fail2ban prints it. It turns IPv4 in IPv6 into IPv4, as the mesh does.
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

// formatPrefix prints a prefix as fail2ban does: an address has no length.
func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
