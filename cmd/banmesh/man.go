package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"banmesh/examples"
	"banmesh/mesh/control"
)

// manCommand makes the pages of the package from the same texts as --help. It is hidden because only the
// build uses it.
func manCommand(c *console) *cli.Command {
	var section string
	return &cli.Command{
		Name: "man", Category: "Other", Usage: "write the manual pages", ArgsUsage: "DIR", Hidden: true,
		Description: "One page for the program and one for each command, of what --help shows; in section 5 banmesh.yaml.\n\n" +
			"Example:\n   banmesh man /usr/local/share/man/man1",
		Flags: []cli.Flag{&cli.StringFlag{Name: "section", Value: "1", Destination: &section, Usage: "1, the commands, or 5, the configuration"}},
		Action: func(cc *cli.Context) error {
			if section != "1" && section != "5" {
				return usagef("man: --section %s: want 1 or 5", control.Show(section))
			}
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			return c.writeManual(args[0], section)
		},
	}
}

// writeManual writes the pages of a section into a directory that exists.
func (c *console) writeManual(dir, section string) error {
	if section == "5" {
		return writePage(dir, "banmesh.yaml.5", configurationPage())
	}
	app := newApp(c)
	pages := map[string]string{"banmesh": programPage(app)}
	for _, cmd := range app.Commands {
		if !cmd.Hidden {
			pages["banmesh-"+cmd.Name] = commandPage(cmd)
		}
	}
	for name, text := range pages {
		if err := writePage(dir, name+".1", text); err != nil {
			return err
		}
	}
	return nil
}

func writePage(dir, name, text string) error {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	return nil
}

// configurationPage is banmesh.yaml(5): the example, which explains every key.
func configurationPage() string {
	p := newPage("banmesh.yaml", "configuration of a banmesh agent", 5)
	p.section("DESCRIPTION")
	p.line(roff("The agent reads /etc/banmesh/banmesh.yaml, or the file of agent --config, at its start; SIGHUP makes it read it again. A key that is not there has its default; one that is not known is refused with its line."))
	p.line(".PP")
	p.line(roff("banmesh config check FILE says all that is wrong with a file. banmesh config schema writes its JSON schema."))
	p.section("KEYS")
	p.line(".EX")
	for line := range strings.Lines(examples.Configuration) {
		p.line(roff(strings.TrimRight(line, "\n")))
	}
	p.line(".EE")
	p.section("SEE ALSO")
	p.line(".BR banmesh (1),\n.BR banmesh\\-config (1)")
	return p.text.String()
}

// A page carries no date: the same sources give the same bytes.
func programPage(app *cli.App) string {
	p := newPage("banmesh", app.Usage, 1)
	p.section("SYNOPSIS")
	p.line(".B banmesh\n.I COMMAND\n[flags] [arguments]")
	p.section("DESCRIPTION")
	p.prose(app.Description)
	p.section("COMMANDS")
	for _, cmd := range app.Commands {
		if !cmd.Hidden {
			p.item(strong("banmesh-"+cmd.Name)+"(1)", cmd.Usage)
		}
	}
	p.section("EXIT STATUS")
	p.item("0", "done; also where ban or unban found no agent and wrote to the spool")
	p.item("1", "failed: one line on stderr says what")
	p.item("2", "wrong usage")
	p.item("3", "no agent reachable")
	p.section("ENVIRONMENT")
	p.item(strong("BANMESH_SOCKET"), "the agent's control socket, where --socket is not given")
	p.item(strong("BANMESH_SPOOL"), "where ban and unban wait for an agent, where --spool is not given")
	p.item(strong("NO_COLOR"), "no colour, also on a terminal")
	p.section("FILES")
	p.item("/etc/banmesh/banmesh.yaml", "the configuration; every key is explained there")
	p.item("/etc/banmesh/keyring.json", "the keys that encrypt the gossip")
	p.item("/run/banmesh/banmesh.sock", "where the commands reach the agent")
	p.item("/var/lib/banmesh", "the store of bans and the spool")
	p.section("SEE ALSO")
	p.line(".BR banmesh.yaml (5),\n.BR fail2ban-client (1),")
	p.line(roff("/usr/share/doc/banmesh/examples/README.md"))
	return p.text.String()
}

// commandPage has one page for a command with all its subcommands.
func commandPage(cmd *cli.Command) string {
	p := newPage("banmesh-"+cmd.Name, cmd.Usage, 1)
	p.section("SYNOPSIS")
	p.synopsis("banmesh", cmd)
	p.section("DESCRIPTION")
	p.prose(cmd.Description)
	if len(cmd.Flags) > 0 {
		p.section("OPTIONS")
		p.flags(cmd)
	}
	for _, sub := range cmd.Subcommands {
		if sub.Hidden {
			continue
		}
		p.section(strings.ToUpper(cmd.Name + " " + sub.Name))
		p.line(roff(sub.Usage) + ".\n.PP")
		p.prose(sub.Description)
		p.flags(sub)
	}
	p.section("SEE ALSO")
	p.line(".BR banmesh (1)")
	return p.text.String()
}

// page is a manual page, in the macros of man(7).
type page struct{ text strings.Builder }

// newPage leaves the date empty: pages built twice from the same source must be equal.
func newPage(name, usage string, section int) *page {
	p := &page{}
	p.line(fmt.Sprintf(".TH %s %d \"\" %q", strings.ToUpper(roff(name)), section, "banmesh"))
	p.section("NAME")
	p.line(roff(name) + ` \- ` + roff(usage))
	return p
}

func (p *page) line(s string)       { p.text.WriteString(s + "\n") }
func (p *page) section(name string) { p.line(".SH " + roff(name)) }

// item takes a tag that begins with a font (\f) as it is, and escapes any other.
func (p *page) item(tag, text string) {
	p.line(".TP")
	if !strings.HasPrefix(tag, `\f`) {
		tag = roff(tag)
	}
	p.line(tag)
	p.line(roff(text))
}

// synopsis has a line for each command that can be run, so none for one that only has subcommands.
func (p *page) synopsis(prefix string, cmd *cli.Command) {
	if len(cmd.Subcommands) > 0 {
		for _, sub := range cmd.Subcommands {
			if !sub.Hidden {
				p.synopsis(prefix+" "+cmd.Name, sub)
			}
		}
		return
	}
	p.line(strong(prefix + " " + cmd.Name))
	rest := cmd.ArgsUsage
	if len(cmd.Flags) > 0 {
		rest = strings.TrimSpace(rest + " [flags]")
	}
	p.line(roff(rest))
	p.line(".br")
}

// flags finds the value's name between backquotes in the usage, as the library does for --help.
func (p *page) flags(cmd *cli.Command) {
	for _, f := range cmd.Flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		tag, usage := strong("--"+f.Names()[0]), doc.GetUsage()
		if doc.TakesValue() {
			tag += ` \fI` + roff(placeholder(usage)) + `\fR`
		}
		p.item(tag, strings.ReplaceAll(usage, "`", ""))
	}
}

// placeholder is the word between backquotes in a flag's usage, as the help
// shows it behind the flag.
func placeholder(usage string) string {
	if _, rest, ok := strings.Cut(usage, "`"); ok {
		if word, _, ok := strings.Cut(rest, "`"); ok {
			return word
		}
	}
	return "VALUE"
}

// prose sets a description: indented lines are examples and stay as they are.
func (p *page) prose(text string) {
	if text == "" {
		return
	}
	verbatim := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		example := strings.HasPrefix(line, "   ")
		switch {
		case example && !verbatim:
			p.line(".IP \"\" 4\n.nf")
		case !example && verbatim:
			p.line(".fi")
		}
		verbatim = example
		switch {
		case example:
			p.line(roff(strings.TrimPrefix(line, "   ")))
		case line == "":
			p.line(".PP")
		default:
			p.line(roff(line))
		}
	}
	if verbatim {
		p.line(".fi")
	}
}

func strong(s string) string { return `\fB` + roff(s) + `\fR` }

// roff keeps text from being taken for requests and dashes from becoming
// hyphens, which could not be pasted into a shell.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
