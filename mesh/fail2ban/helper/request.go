package helper

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"banmesh/store/text"
)

// maxPrefixes is how many prefixes one request may have: fail2ban answers nobody else while it works through them.
const maxPrefixes = 100

// What may be read of a jail. An action's other settings can hold passwords of other services.
var (
	readable = []string{"actions", "bantime", "failregex", "ignoreip"}
	hooks    = []string{"actionban", "actionflush", "actionunban"}
)

// errRefused is wrapped where the helper does not do what it is asked.
var errRefused = errors.New("refused")

// check refuses everything but the requests that the agent makes: status, reading, unban, ignore and unignore. meshJail is the
// jail that may also be given bans and emptied, which is the agent's own; "" for none.
func check(words []string, meshJail string) error {
	if len(words) == 0 {
		return fmt.Errorf("%w: nothing was asked", errRefused)
	}
	for _, w := range words {
		if err := text.CheckName(w); err != nil {
			return fmt.Errorf("%w: a word: %w", errRefused, err)
		}
		// What begins with a dash would be an option of fail2ban-client.
		if strings.HasPrefix(w, "-") && !slices.Contains([]string{"--with-time", "--unban"}, w) {
			return fmt.Errorf("%w: %q is an option", errRefused, w)
		}
	}
	switch verb, rest := words[0], words[1:]; {
	case verb == "status" && len(rest) == 0:
		return nil
	case verb == "status" && isJail(rest[0]) && (len(rest) == 1 || len(rest) == 2 && rest[1] == "short"):
		return nil
	case verb == "get" && len(rest) >= 2 && isJail(rest[0]):
		return checkGet(rest[1:])
	case verb == "set" && len(rest) >= 3 && isJail(rest[0]):
		if slices.Contains([]string{"unbanip", "addignoreip", "delignoreip"}, rest[1]) || rest[1] == "banip" && meshJail != "" && rest[0] == meshJail {
			return checkPrefixes(rest[2:])
		}
	case meshJail != "" && slices.Equal(words, []string{"reload", "--unban", meshJail}):
		return nil
	}
	return fmt.Errorf("%w: not one of the requests that banmesh makes", errRefused)
}

func isJail(name string) bool { return !strings.HasPrefix(name, "-") }

// checkGet lists what may be read: the helper runs as root, and the agent that asks it may be taken over.
func checkGet(what []string) error {
	switch {
	case len(what) == 1 && slices.Contains(readable, what[0]),
		what[0] == "banip" && (len(what) == 1 || len(what) == 2 && what[1] == "--with-time"),
		what[0] == "actionproperties" && len(what) == 2 && isJail(what[1]),
		what[0] == "action" && len(what) == 3 && isJail(what[1]) && slices.Contains(hooks, what[2]):
		return nil
	}
	return fmt.Errorf("%w: banmesh does not read that", errRefused)
}

// checkPrefixes takes addresses and prefixes, written as netip writes them and no wider than /8 (IPv4) or /16 (IPv6).
func checkPrefixes(words []string) error {
	if len(words) > maxPrefixes {
		return fmt.Errorf("%w: %d prefixes at once, at most %d", errRefused, len(words), maxPrefixes)
	}
	for _, w := range words {
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" && a.String() == w {
			continue
		}
		p, err := netip.ParsePrefix(w)
		if err != nil || p.Masked() != p || p.String() != w {
			return fmt.Errorf("%w: %q is not an address or prefix", errRefused, w)
		}
		if p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16 {
			return fmt.Errorf("%w: %s is too wide", errRefused, w)
		}
	}
	return nil
}
