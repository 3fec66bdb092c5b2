package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// completeFlag is the last word with which a shell asks for what may stand in place of the word before it: the library's own.
const completeFlag = "--generate-bash-completion"

const (
	// completeWithin bounds what a completion asks of the agent: somebody waits with a finger on the key.
	completeWithin = 300 * time.Millisecond
	// maxCompletions is how many values are offered.
	maxCompletions = 500
)

// completionCommand writes scripts that hold no names: the shell calls banmesh itself for each completion
// (completeFlag), so the script need not be written anew after an upgrade.
func completionCommand(c *console) *cli.Command {
	shells := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
	return &cli.Command{
		Name: "completion", Category: "Other", Usage: "write a shell's completion script", ArgsUsage: "bash|zsh|fish",
		Description: "It completes commands, flags and their values, and, where an agent answers, members, jails and banned addresses.\n\n" +
			"Example:\n   banmesh completion bash > /etc/bash_completion.d/banmesh",
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			script, ok := shells[args[0]]
			if !ok {
				return usagef("completion: %s: want bash, zsh or fish", control.Show(args[0]))
			}
			_, err = fmt.Fprint(c.out, script)
			return err
		},
	}
}

// A word with a colon, an IPv6 address, is several to bash, unless the helpers of bash-completion put it together.
const bashScript = `# bash completion for banmesh
_banmesh() {
  local cur cword words IFS=$'\n'
  if declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref -n := cur words cword
  else
    cur="${COMP_WORDS[COMP_CWORD]}" words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
  fi
  COMPREPLY=($(compgen -W "$("${words[0]}" "${words[@]:1:cword}" ` + completeFlag + ` 2>/dev/null)" -- "$cur"))
  # readline replaces what is behind the = alone.
  if [[ $cur == --*=* && $COMP_WORDBREAKS == *=* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${cur%%=*}="}")
    cur="${cur#*=}"
  fi
  if declare -F __ltrim_colon_completions >/dev/null; then
    __ltrim_colon_completions "$cur"
  fi
}
complete -o default -F _banmesh banmesh
`

const zshScript = `#compdef banmesh
_banmesh() {
  local -a found
  found=("${(@f)$("${words[1]}" "${(@)words[2,CURRENT]}" ` + completeFlag + ` 2>/dev/null)}")
  if [[ -n "${found[1]}" ]]; then compadd -a found; else _files; fi
}
if [[ "${funcstack[1]}" == _banmesh ]]; then _banmesh "$@"; else compdef _banmesh banmesh; fi
`

const fishScript = `# fish completion for banmesh
function __banmesh_complete
  set -l words (commandline -opc) (commandline -ct)
  $words[1] $words[2..-1] ` + completeFlag + ` 2>/dev/null
end
complete -c banmesh -f -a '(__banmesh_complete)'
complete -c banmesh -n '__fish_seen_subcommand_from import check agent' -F
`

// complete writes what may stand in place of the last word, one to a line. It never fails: without an agent it knows the
// fixed words alone, and where a file is wanted none, which leaves it to the shell.
func (c *console) complete(ctx context.Context, words []string) {
	for _, s := range c.candidates(ctx, words) {
		fmt.Fprintln(c.out, s)
	}
}

// candidates returns what can follow the words, the last of which is the one being typed ("" for a new one). It reads the
// words loosely instead of parsing them, since a line that is not finished is rarely valid.
func (c *console) candidates(ctx context.Context, words []string) []string {
	current := ""
	if n := len(words); n > 0 {
		words, current = words[:n-1], words[n-1]
	}

	// No flag has been parsed: the socket is found among the words as the parser would find it.
	c.socket = control.DefaultSocket
	if s := c.getenv("BANMESH_SOCKET"); s != "" {
		c.socket = s
	}
	cmds, flags, path := commands(c), []cli.Flag(nil), []string(nil)
	pending := "" // the flag whose value is wanted
	for _, w := range words {
		if pending != "" {
			if pending == "socket" {
				c.socket = w
			}
			pending = ""
			continue
		}
		if strings.HasPrefix(w, "-") {
			name, value, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if name == "socket" && hasValue {
				c.socket = value
			}
			// --socket may stand before the command, whose flags are not known yet.
			if f := findFlag(flags, name); !hasValue && (name == "socket" || f != nil && !isBool(f)) {
				pending = name
			}
			continue
		}
		if next := findCommand(cmds, w); next != nil {
			cmds, flags, path = next.Subcommands, next.Flags, append(path, next.Name)
		}
	}
	switch {
	case pending != "":
		return c.values(ctx, strings.Join(path, " "), pending)
	case strings.HasPrefix(current, "-"):
		if flag, _, ok := strings.Cut(current, "="); ok {
			out := c.values(ctx, strings.Join(path, " "), strings.TrimLeft(flag, "-"))
			for i := range out {
				out[i] = flag + "=" + out[i]
			}
			return out
		}
		out := []string{"--help"}
		for _, f := range flags {
			out = append(out, "--"+f.Names()[0])
		}
		return out
	// The command is not complete: a further word of it comes before any argument.
	case len(cmds) > 0:
		return strings.Split(names(cmds), ", ")
	}
	return c.arguments(ctx, strings.Join(path, " "), current)
}

func isBool(f cli.Flag) bool { _, ok := f.(*cli.BoolFlag); return ok }

// values are those of a command's flag.
func (c *console) values(ctx context.Context, command, flag string) []string {
	switch flag {
	case "jail":
		return c.known(ctx, func(ctx context.Context, cl *control.Client) (out []string, err error) {
			// All of a long history takes longer than anybody waits.
			s, err := cl.Stats(ctx, control.StatsQuery{Since: control.At(c.now().AddDate(0, 0, -7)), Top: maxCompletions})
			for _, j := range s.Jails {
				out = append(out, j.Name)
			}
			return out, err
		})
	case "origin":
		return c.members(ctx, func(control.Member) bool { return true })
	case "sort":
		return slices.Clone(control.ListSorts)
	case "event":
		if command == "monitor" {
			return slices.Clone(control.EventKinds)
		}
		return slices.Clone(control.PastKinds)
	case "output", "o", "format":
		return []string{"table", "plain", "csv", "json"}
	case "cancel":
		return c.known(ctx, func(ctx context.Context, cl *control.Client) (out []string, err error) {
			open, err := cl.Invitations(ctx)
			for _, i := range open {
				out = append(out, cmp.Or(i.Name, i.ID))
			}
			return slices.Compact(out), err
		})
	case "driver":
		return []string{"netconf", "rest"}
	case "style":
		return []string{"5.2", "5.5", "5.6"}
	case "for", "since", "until", "hold":
		return []string{"10m", "1h", "1d", "7d", "30d"}
	case "restored":
		return []string{"0", "1"}
	}
	return nil
}

// arguments are those of a command, by its name.
func (c *console) arguments(ctx context.Context, command, current string) []string {
	switch command {
	case "unban", "why", "history", "list", "monitor":
		return c.banned(ctx, current)
	case "allow remove":
		return c.known(ctx, func(ctx context.Context, cl *control.Client) (out []string, err error) {
			allows, err := cl.Allows(ctx)
			for _, a := range allows {
				out = append(out, control.Bare(a.Prefix))
			}
			return out, err
		})
	case "forget":
		// A live member cannot be forgotten, so it is not offered.
		return c.members(ctx, func(m control.Member) bool { return m.State != "alive" })
	case "keyring use", "keyring remove":
		return c.known(ctx, func(ctx context.Context, cl *control.Client) (out []string, err error) {
			r, err := cl.Keyring(ctx, control.KeyringCall{Op: "list"})
			for _, k := range r.Keys {
				out = append(out, k.Key)
			}
			return out, err
		})
	case "completion":
		return []string{"bash", "zsh", "fish"}
	}
	return nil
}

// known asks the agent; nothing comes where it does not answer at once.
func (c *console) known(ctx context.Context, get func(context.Context, *control.Client) ([]string, error)) (out []string) {
	c.ask(ctx, completeWithin, func(ctx context.Context, cl *control.Client) (err error) {
		out, err = get(ctx, cl)
		return err
	})
	return slices.DeleteFunc(out, misread)
}

// misread reports whether a name would be taken apart by the shell, for its blanks or signs, or be an option to the command.
func misread(name string) bool {
	return strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \t\n\\'\"$`;&|<>()*?[]{}!#~")
}

// members returns nothing when no agent answers: a completion has no place for an error.
func (c *console) members(ctx context.Context, which func(control.Member) bool) []string {
	return c.known(ctx, func(ctx context.Context, cl *control.Client) (out []string, err error) {
		members, err := cl.Members(ctx)
		for _, m := range members {
			if which(m) {
				out = append(out, m.Name)
			}
		}
		return out, err
	})
}

// banned are banned addresses that begin like the word.
func (c *console) banned(ctx context.Context, begins string) []string {
	q := control.ListQuery{Prefix: beginning(begins), Limit: maxCompletions}
	return c.known(ctx, func(ctx context.Context, cl *control.Client) (out []string, err error) {
		// The agent narrows by whole octets, and the rest is compared here.
		err = cl.List(ctx, q, func(b control.Ban) error {
			if s := control.Bare(b.Prefix); strings.HasPrefix(s, begins) {
				out = append(out, s)
			}
			return nil
		})
		return out, err
	})
}

// beginning is the prefix that the whole octets of an IPv4 address at its beginning name, no prefix where there is none.
func beginning(s string) netip.Prefix {
	var a [4]byte
	parts := strings.Split(s, ".")
	n := len(parts) - 1 // the last one may go on, unless one more digit would make it too large
	if v, err := strconv.ParseUint(parts[n], 10, 8); err == nil && v > 25 && n < 3 {
		n++
	}
	if n < 1 || n > 3 {
		return netip.Prefix{}
	}
	for i, p := range parts[:n] {
		v, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return netip.Prefix{}
		}
		a[i] = byte(v)
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 8*n)
}
