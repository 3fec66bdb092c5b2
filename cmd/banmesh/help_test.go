package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// try runs a command line without an environment.
func try(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &o, &e, func(string) string { return "" })
	return code, o.String(), e.String()
}

// chains returns the words of every command.
func chains(prefix []string, cmds []*cli.Command) [][]string {
	var out [][]string
	for _, cmd := range cmds {
		at := append(append([]string{}, prefix...), cmd.Name)
		out = append(append(out, at), chains(at, cmd.Subcommands)...)
	}
	return out
}

func everyCommand() [][]string {
	return chains(nil, commands(newConsole(nil, nil, nil, func(string) string { return "" })))
}

func TestHelpOfEveryCommandHasAnExample(t *testing.T) {
	for _, words := range append(everyCommand(), nil) {
		for _, help := range []string{"--help", "-h"} {
			code, out, errOut := try(append(words, help)...)
			_, example, found := strings.Cut(out, "Example")
			if code != exitDone || errOut != "" || !found || !strings.Contains(example, "banmesh "+strings.Join(words, " ")) {
				t.Errorf("banmesh %s %s: exit %d, stderr %q, and no example of it in:\n%s", strings.Join(words, " "), help, code, errOut, out)
			}
		}
	}
}

func TestEveryCommandRefusesUnknownFlags(t *testing.T) {
	for _, words := range everyCommand() {
		code, out, errOut := try(append(words, "--frobnicate")...)
		if code != exitUsage || out != "" || strings.Count(errOut, "\n") != 1 || !strings.HasPrefix(errOut, "banmesh: ") {
			t.Errorf("%v --frobnicate: exit %d, stdout %q, stderr %q; want exit 2 and one line on stderr", words, code, out, errOut)
		}
	}
}

// The hot commands are run by other code than the rest; both must take the same flags.
func TestHotCommandsAreThoseOfTheHelp(t *testing.T) {
	c := newConsole(nil, nil, nil, func(string) string { return "" })
	for _, words := range everyCommand() {
		build := hotCommand(words)
		if build == nil {
			continue
		}
		hot := build(c)
		cmds, cold := commands(c), (*cli.Command)(nil)
		for _, w := range words {
			cold = findCommand(cmds, w)
			cmds = cold.Subcommands
		}
		if len(hot.Flags) != len(cold.Flags) || hot.Name != cold.Name {
			t.Errorf("%v: the hot command is %s with %d flags, help shows %s with %d", words, hot.Name, len(hot.Flags), cold.Name, len(cold.Flags))
		}
	}
}

func TestAMegabyteOfArgumentIsRefusedInOneShortLine(t *testing.T) {
	long := strings.Repeat("A\x1b[31m", 1<<17)
	for _, args := range [][]string{
		{"ban", long}, {"ban", "203.0.113.7", "--jail", long}, {"ban", "203.0.113.7", "--for", long}, {"ban", "203.0.113.7", "--reason", long},
		{"ban", "203.0.113.7", "--" + long}, {"unban", long}, {"list", long}, {"why", long}, {long}, {"allow", long}, {"allow", "add", long},
		{"fail2ban", "ban", "--jail=sshd", "--time=1", "--bantime=1", "--ip=" + long}, {"fail2ban", long}, {"completion", long}, {"join", long},
		{"ban", "203.0.113.7", "--start", long}, {"conductor", "sim", "--listen", long}, {"list", "--format", long}, {"revoke", "--yes", "--origin", long},
	} {
		code, _, errOut := try(args...)
		if code != exitUsage || len(errOut) > 600 || strings.Count(errOut, "\n") != 1 || strings.Contains(errOut, "\x1b") {
			t.Errorf("%.20s...: exit %d, %d bytes on stderr: %.300q", args, code, len(errOut), errOut)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"ban\n203.0.113.7", "ban\n--for=1\n--\n--", "unban\n-h", "fail2ban\nban\n--jail=x\n--ip=::1\n--bantime=1e3", "allow\nadd\n::/1", "\x00", "help\nhelp", "--socket\nx\nban"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\n")
		for _, stays := range []string{"conductor", "agent", "demo", "bench"} {
			if slices.Contains(args, stays) {
				return
			}
		}
		dir := t.TempDir()
		var out, errOut bytes.Buffer
		getenv := func(name string) string {
			return map[string]string{"BANMESH_SOCKET": dir + "/none", "BANMESH_SPOOL": dir + "/spool"}[name]
		}
		for _, a := range args {
			if strings.Contains(a, "spool") || strings.Contains(a, "socket") || strings.Contains(a, "file") {
				return // must not leave the directory
			}
		}
		code := run(context.Background(), args, strings.NewReader(""), &out, &errOut, getenv)
		if code < exitDone || code > exitNoAgent {
			t.Errorf("%q: exit %d", args, code)
		}
		if code != exitDone && !strings.HasPrefix(errOut.String(), "banmesh: ") {
			t.Errorf("%q: exit %d with stderr %q", args, code, errOut.String())
		}
	})
}
