package e2e

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCommandsInTheDocumentsExist finds every banmesh command that README.md,
// docs and examples show, in text, blocks, comments, units and scripts, and has the
// program look at its words: an unknown command or flag is refused.
func TestCommandsInTheDocumentsExist(t *testing.T) {
	const top = "../../.."
	files := []string{filepath.Join(top, "README.md"), filepath.Join(top, "CONTRIBUTING.md")}
	for _, dir := range []string{"examples", "docs"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case !d.IsDir() && filepath.Ext(path) != ".go" && filepath.Ext(path) != ".json":
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	counts, seen := map[string]int{}, map[string]bool{}
	for _, file := range files {
		for _, words := range shown(fileText(t, file)) {
			counts[filepath.Ext(file)]++
			line := strings.Join(words, " ")
			if seen[line] {
				continue
			}
			seen[line] = true
			if r := command(t, nil, askHelp(words)...); r.code != 0 {
				t.Errorf("%s shows `banmesh %s`: %s", file, line, r.err)
			}
		}
	}
	// So that a change of the texts' form does not end the looking.
	for kind, least := range map[string]int{".md": 30, ".service": 2, ".conf": 6, "": 1, ".yaml": 2} {
		if counts[kind] < least {
			t.Errorf("only %d commands found in files with the extension %q, want %d at least", counts[kind], kind, least)
		}
	}
}

// askHelp puts --help where it is taken for nobody's value. With it the program
// looks at the words and does nothing.
func askHelp(words []string) []string {
	i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") })
	if i < 0 {
		i = len(words)
	}
	return slices.Insert(slices.Clone(words), i, "--help")
}

func TestAnUnknownCommandInADocumentIsFound(t *testing.T) {
	for text, want := range map[string]int{
		"    banmesh bann 203.0.113.7":                           2,
		"Say `banmesh ban 203.0.113.7 --fro 1h`.":                2,
		"    router1# KEY=$(banmesh keygenn)":                    2,
		"ExecStart=/usr/bin/banmesh agnet --config X":            2,
		"    curl -s X | banmesh import - --jail drop --fro 1d":  2,
		"    true && banmesh list --jsn":                         2,
		"    go run ./cmd/banmesh dmo":                           2,
		"actionban = <bin> fail2ban ban --jale=\"<name>\"":       2,
		"    banmesh ban \"203.0.113.7\" --for 2h   # --comment": 0,
		"    banmesh ban 203.0.113.7 --reason '--not-a-flag'":    0,
	} {
		found := shown(text)
		if len(found) != 1 {
			t.Errorf("in %q are %d commands, want 1: %q", text, len(found), found)
			continue
		}
		if r := command(t, nil, askHelp(found[0])...); r.code != want {
			t.Errorf("%q: exit %d, want %d: %s", text, r.code, want, r.err)
		}
	}
}

var (
	span   = regexp.MustCompile("`([^`\n]+)`")
	prompt = regexp.MustCompile(`^router\d+# `)
	// Where a line of another kind than a shell's begins its command.
	lead = regexp.MustCompile(`^(?:#[ \t]{2,}|Exec\w+=-?|action\w+ = (?::[^;]*; )?)`)
	run  = regexp.MustCompile(`^(?:\S*/banmesh|<bin>|go run \./cmd/banmesh) `)
)

// shown are the words behind `banmesh` of all commands in a text.
func shown(text string) [][]string {
	var found [][]string
	take := func(line string) {
		line = prompt.ReplaceAllString(strings.TrimSpace(line), "")
		for _, words := range simpleCommands(run.ReplaceAllString(line, "banmesh ")) {
			if len(words) > 1 && words[0] == "banmesh" {
				found = append(found, words[1:])
			}
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if spans := span.FindAllStringSubmatch(line, -1); spans != nil {
			for _, m := range spans {
				take(m[1])
			}
			continue
		}
		bare := lead.ReplaceAllString(line, "")
		if bare != line || strings.HasPrefix(line, "    ") || strings.HasPrefix(text, "#!/bin/sh") {
			take(bare)
		}
	}
	return found
}

// simpleCommands takes a line of the shell apart, as far as documents need it:
// quotes, comments, |, &&, ; and $(...), whose inside is a command of its own.
func simpleCommands(line string) [][]string {
	var done [][]string
	var words []string
	var word bytes.Buffer
	inWord, quote := false, byte(0)
	endWord := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			done = append(done, words)
		}
		words = nil
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != '\'' && strings.HasPrefix(line[i:], "$("):
			inside, rest, _ := strings.Cut(line[i+2:], ")")
			done = append(done, simpleCommands(inside)...)
			word.WriteString("substituted")
			inWord = true
			i = len(line) - len(rest) - 1
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == '#' && !inWord:
			endCommand()
			return done
		case c == '|' || c == '&' || c == ';':
			endCommand()
		case c == ' ' || c == '\t':
			endWord()
		case c == '>' && !strings.HasPrefix(line[i:], ">\""):
			endCommand() // what follows is a file
			if _, rest, ok := strings.Cut(line[i:], "&&"); ok {
				return append(done, simpleCommands(rest)...)
			}
			return done
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	return done
}
