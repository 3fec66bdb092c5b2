// Package login tells from which addresses people are logged in on this
// machine, so that nobody bans himself or a colleague.
//
// The commands ask it before a ban, when a machine is set up and in doctor; the agent does not, since a login is a matter of
// the moment. There are two sources: the environment of the caller's own shell (ssh(1)), which sudo removes, and the list of
// logins (utmp(5)), which a machine need not keep. Both can be missing, and neither is proof: what is found here leads
// to a warning, a never-ban or a demand for --force, and decides nothing else. Loopback and unspecified addresses are left
// out, as nobody can be locked out by a ban of them.
package login

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"strings"
)

// UtmpPath is where the logins are kept (utmp(5)).
const UtmpPath = "/run/utmp"

// maxUtmp bounds what is read of it: 2,700 logins.
const maxUtmp = 1 << 20

// Session is somebody's login from elsewhere.
type Session struct {
	User string
	Line string // the terminal, as pts/3
	From netip.Addr
}

// Shell returns the address from which the shell's own SSH session comes, the
// zero Addr where it comes from none: the first word of SSH_CONNECTION, or of
// the older SSH_CLIENT (ssh(1)).
func Shell(getenv func(string) string) netip.Addr {
	for _, name := range []string{"SSH_CONNECTION", "SSH_CLIENT"} {
		word, _, _ := strings.Cut(getenv(name), " ")
		if addr, ok := parse(word); ok {
			return addr
		}
	}
	return netip.Addr{}
}

// Terminal returns the terminal that this process reads from, as utmp names it
// (pts/3); "" where it is none.
func Terminal() string {
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return ""
	}
	line, ok := strings.CutPrefix(name, "/dev/")
	if !ok || !strings.HasPrefix(line, "pts/") && !strings.HasPrefix(line, "tty") {
		return ""
	}
	return line
}

// Sessions returns the logins from other machines that are kept at path, each
// terminal's; a machine that keeps none has no such file, which is no error.
func Sessions(path string) ([]Session, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("logins: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxUtmp))
	if err != nil {
		return nil, fmt.Errorf("logins: %w", err)
	}
	return decode(raw, layoutOf(runtime.GOARCH)), nil
}

// layout is struct utmp of glibc, whose tail differs with the width of time.
type layout struct{ addr, size int }

// layoutOf gives where struct utmp (utmp(5)) has its address, which depends on whether the C library keeps it
// readable for 32-bit programs.
func layoutOf(arch string) layout {
	switch arch {
	case "arm64", "riscv64", "loong64":
		return layout{addr: 360, size: 400}
	}
	return layout{addr: 348, size: 384} // those that keep room for 32-bit programs, as amd64
}

// The parts of struct utmp that are the same everywhere (bits/types/struct_utmp.h).
const (
	lineAt, lineLen = 8, 32
	userAt, userLen = 44, 32
	hostAt, hostLen = 76, 256

	userProcess = 7 // ut_type of a login
)

// decode reads whole records; a torn last one is left out.
func decode(raw []byte, l layout) []Session {
	var out []Session
	for ; len(raw) >= l.size; raw = raw[l.size:] {
		rec := raw[:l.size]
		if binary.NativeEndian.Uint16(rec) != userProcess {
			continue
		}
		from, ok := address([16]byte(rec[l.addr : l.addr+16]))
		if !ok {
			// Written by what knows the host's name only, which may be an address.
			from, ok = parse(text(rec[hostAt : hostAt+hostLen]))
		}
		if ok {
			out = append(out, Session{User: text(rec[userAt : userAt+userLen]), Line: text(rec[lineAt : lineAt+lineLen]), From: from})
		}
	}
	return out
}

// address reads ut_addr_v6: an IPv4 address is in its first word, and the
// others are zero.
func address(raw [16]byte) (netip.Addr, bool) {
	if [12]byte(raw[4:]) == [12]byte{} {
		a := netip.AddrFrom4([4]byte(raw[:4]))
		return a, !a.IsUnspecified() && !a.IsLoopback()
	}
	a := netip.AddrFrom16(raw).Unmap()
	return a, !a.IsUnspecified() && !a.IsLoopback()
}

// parse leaves out what is no remote address: the local console's, and loopback's.
func parse(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, false
	}
	a = a.Unmap().WithZone("")
	return a, !a.IsUnspecified() && !a.IsLoopback()
}

// text is a C string that need not end with a zero byte, without what could
// move a terminal's cursor.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b))
}
