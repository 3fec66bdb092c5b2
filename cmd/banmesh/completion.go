package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

func completionCommand(c *console) *cli.Command {
	shells := map[string]func() string{"bash": c.bash, "zsh": c.zsh, "fish": c.fish}
	return &cli.Command{
		Name: "completion", Category: "Other", Usage: "write the completion script of a shell", ArgsUsage: "bash|zsh|fish",
		Description: "Example:\n   banmesh completion bash > /etc/bash_completion.d/banmesh",
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			script, ok := shells[args[0]]
			if !ok {
				return usagef("completion: %s: want bash, zsh or fish", control.Show(args[0]))
			}
			_, err = fmt.Fprint(c.out, script())
			return err
		},
	}
}

// choices are what may follow each chain of commands: the commands below it, or its flags.
func choices(path string, cmds []*cli.Command, each func(path string, cmds []*cli.Command, flags []string)) {
	each(path, cmds, nil)
	for _, cmd := range cmds {
		at := strings.TrimSpace(path + " " + cmd.Name)
		if len(cmd.Subcommands) > 0 {
			choices(at, cmd.Subcommands, each)
			continue
		}
		flags := []string{"--help"}
		for _, f := range cmd.Flags {
			flags = append(flags, "--"+f.Names()[0])
		}
		each(at, nil, flags)
	}
}

// cases writes the words for each chain as the arms of a shell's case.
func (c *console) cases() string {
	var b strings.Builder
	choices("", commands(c), func(path string, cmds []*cli.Command, flags []string) {
		words := flags
		if cmds != nil {
			words = strings.Split(names(cmds), ", ")
		}
		fmt.Fprintf(&b, "    %q) words=%q ;;\n", path, strings.Join(words, " "))
	})
	return b.String()
}

func (c *console) bash() string {
	return `# bash completion for banmesh
_banmesh() {
  local cur="${COMP_WORDS[COMP_CWORD]}" path="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in -*) break ;; esac
    case "${path:+$path }${COMP_WORDS[i]}" in
` + c.known("      ") + `      *) break ;;
    esac
  done
  case "$path" in
` + c.cases() + `  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _banmesh banmesh
`
}

// known writes the chains of commands as one arm that takes the next word into the path.
func (c *console) known(indent string) string {
	var chains []string
	choices("", commands(c), func(path string, _ []*cli.Command, _ []string) {
		if path != "" {
			chains = append(chains, `"`+path+`"`)
		}
	})
	return indent + strings.Join(chains, "|") + `) path="${path:+$path }${COMP_WORDS[i]}" ;;` + "\n"
}

func (c *console) zsh() string {
	return "#compdef banmesh\nautoload -U +X bashcompinit && bashcompinit\n" + c.bash()
}

func (c *console) fish() string {
	var b strings.Builder
	b.WriteString("# fish completion for banmesh\ncomplete -c banmesh -f\n")
	choices("", commands(c), func(path string, cmds []*cli.Command, flags []string) {
		words := strings.Fields(path)
		when := "__fish_use_subcommand"
		if len(words) > 0 {
			var seen []string
			for _, w := range words {
				seen = append(seen, "__fish_seen_subcommand_from "+w)
			}
			when = strings.Join(seen, "; and ")
		}
		for _, cmd := range cmds {
			fmt.Fprintf(&b, "complete -c banmesh -n %q -a %s -d %q\n", when, cmd.Name, cmd.Usage)
		}
		for _, f := range flags {
			fmt.Fprintf(&b, "complete -c banmesh -n %q -l %s\n", when, strings.TrimPrefix(f, "--"))
		}
	})
	return b.String()
}
