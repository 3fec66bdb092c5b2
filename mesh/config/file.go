package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"banmesh/internal/shell"
	"banmesh/mesh/control"
)

// maxSize bounds what Load reads: a configuration is a page, and
// the wrong file may be a disk.
const maxSize = 1 << 20

// Load reads the YAML file over Default. Its errors are one line
// that names the file and, where one is at fault, the line and the key. It does
// not call Validate: flags may still change what is wrong; Check does. Root gets an
// error for a file that belongs to somebody else: its commands and paths would be
// run and written by root.
func Load(path string) (*File, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Check is Load and Validate, and goes on where single keys and values
// are at fault: all that is wrong is said at once. The file is nil where nothing of
// it could be read.
func Check(path string) (*File, error) {
	text, err := read(path, nil)
	if err != nil {
		return nil, err
	}
	f := &File{Config: Default(), path: path}
	if err = f.parse(text); err != nil && !f.partly {
		return nil, err
	}
	return f, errors.Join(err, f.Validate())
}

// Parse is Load for a text that is not, or not yet, in its file.
func Parse(path string, text []byte) (*File, error) {
	f := &File{Config: Default(), path: path}
	if err := f.parse(text); err != nil {
		return nil, err
	}
	return f, nil
}

// Whereabouts reads where the agent of a configuration has its socket and its
// spool, and nothing else: a call must find its spool also where the agent does
// not start because another key is wrong.
func Whereabouts(path string) (socket, spool string, err error) {
	text, err := Read(path)
	if err != nil {
		return "", "", err
	}
	c := Default()
	some := struct {
		Socket  *string `yaml:"socket"`
		DataDir *string `yaml:"data_dir"`
	}{&c.Socket, &c.DataDir}
	if err := yaml.Unmarshal(text, &some); err != nil {
		return "", "", fmt.Errorf("read configuration: %s: %w", path, err)
	}
	return c.Socket, c.SpoolDir(), nil
}

// File is a configuration that knows the file it came from, if any.
type File struct {
	Config
	path   string
	line   map[string]int // of each key, dotted
	partly bool           // some keys or values could not be read; the others were

	NameByPackage bool // the name is the host's, kept when the package was installed
}

// Validate is Config.Validate, with the file and the line in front where the
// key at fault stands in the file.
func (f *File) Validate() error {
	err := f.Config.Validate()
	var several faults
	if !errors.As(err, &several) {
		return f.locate(err)
	}
	var bad faults
	for _, err := range several {
		bad.add(f.locate(err))
	}
	return bad.err()
}

// locate adds file and line to an error about a key. A key that is not in the file, because it has its
// default, gets the line of the section around it.
func (f *File) locate(err error) error {
	var fe *fieldError
	if !errors.As(err, &fe) || f.path == "" {
		return err
	}
	key := fe.Key
	for key != "" {
		if line, ok := f.line[key]; ok {
			return fmt.Errorf("%s:%d: %w", f.path, line, err)
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return fmt.Errorf("%s: %w", f.path, err)
}

// Read reads the text of a configuration that is going to be acted on, with the owner
// that Load wants: the agent's user can add files to /etc/banmesh, a banmesh.yaml too
// while there is none.
func Read(path string) ([]byte, error) {
	return read(path, func(info fs.FileInfo) error {
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || os.Geteuid() != 0 || st.Uid == 0 {
			return nil
		}
		return fmt.Errorf("%s belongs to user %d, who could have root run anything by it: look through it, then chown root %s", path, st.Uid, shell.Quote(path))
	})
}

// read returns what a file holds that refuse, if any, lets pass. It does not wait for
// a writer of a pipe.
func read(path string, refuse func(fs.FileInfo) error) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0:
		err = fmt.Errorf("%s has mode %04o, everybody can change what the agent does: chmod o-w %s", path, info.Mode().Perm(), shell.Quote(path))
	case refuse != nil:
		err = refuse(info)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read configuration: %w", err)
	case len(text) > maxSize:
		return nil, fmt.Errorf("read configuration: %s is larger than %d bytes: not a configuration", path, maxSize)
	case len(text) == 0 && info.Mode()&fs.ModeNamedPipe != 0:
		return nil, fmt.Errorf("read configuration: %s is a pipe into which nothing is written", path)
	}
	return text, nil
}

// parse reads the text twice: once as a tree, for line numbers and keys that stand twice, and once into the
// struct, strictly. A second document is refused, as it would be ignored.
func (f *File) parse(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return f.syntax(err, nil)
	}
	if len(doc.Content) == 0 {
		return nil // an empty file is all defaults
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: keys and values are wanted here, as in `name: router1`", f.path, root.Line)
	}
	f.line = make(map[string]int)
	if key, line := index(root, "", f.line); key != "" {
		return fmt.Errorf("%s:%d: %s: stands on line %d already: change it there, or delete one of them", f.path, line, key, f.line[key])
	}

	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f.Config); err != nil {
		f.partly = errors.As(err, new(*yaml.TypeError))
		return f.syntax(err, f.line)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one YAML document: keep one", f.path)
	}
	f.packagedName(text, machine())
	return nil
}

// maxKeyDepth is deeper than any key is: what nests further is refused by the
// decoder, and need not be indexed.
const maxKeyDepth = 8

// index notes the line of every key under node, and returns the first that
// stands twice in its mapping: the decoder would tell of every pair of them.
func index(node *yaml.Node, prefix string, lines map[string]int) (twice string, line int) {
	if strings.Count(prefix, ".")+strings.Count(prefix, "[") > maxKeyDepth {
		return "", 0
	}
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i].Value
			if prefix != "" {
				key = prefix + "." + key
			}
			if _, there := lines[key]; there {
				return key, node.Content[i].Line
			}
			lines[key] = node.Content[i].Line
			if key, line := index(node.Content[i+1], key, lines); key != "" {
				return key, line
			}
		}
	case yaml.SequenceNode:
		for i, item := range node.Content {
			key := fmt.Sprintf("%s[%d]", prefix, i)
			lines[key] = item.Line
			if key, line := index(item, key, lines); key != "" {
				return key, line
			}
		}
	}
	return "", 0
}

// The forms of the YAML library's messages, compiled when there is one.
var yamlForms = sync.OnceValue(func() (f struct{ line, unknown, kind, part *regexp.Regexp }) {
	f.line = regexp.MustCompile(`line (\d+): `)
	f.unknown = regexp.MustCompile(`^field (\S+) not found in type (\S+)$`)
	f.part = regexp.MustCompile(`^cannot unmarshal !!(seq|map) into (\S+)$`)
	f.kind = regexp.MustCompile("^cannot unmarshal \\S+ (`.*`) into (\\S+)$")
	return f
})

// syntax turns the YAML library's error, which may be several lines, into one
// line for each fault with the file, the line and the key.
func (f *File) syntax(err error, lines map[string]int) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) || len(te.Errors) == 0 {
		return f.fault(strings.TrimPrefix(err.Error(), "yaml: "), lines)
	}
	var bad faults
	for _, text := range te.Errors {
		bad.add(f.fault(text, lines))
	}
	return bad.err()
}

// fault rewords the decoder's errors, which name Go types, in terms of the file.
func (f *File) fault(text string, lines map[string]int) error {
	text, _, _ = strings.Cut(text, "\n")
	at := yamlForms().line.FindStringSubmatchIndex(text)
	if at == nil {
		return fmt.Errorf("%s: %s", f.path, text)
	}
	line, _ := strconv.Atoi(text[at[2]:at[3]])
	what := text[:at[0]] + text[at[1]:]
	if m := yamlForms().unknown.FindStringSubmatch(what); m != nil {
		what = m[1] + ": unknown key" + suggestion(m[1], m[2])
	} else if m := yamlForms().part.FindStringSubmatch(what); m != nil {
		what = fmt.Sprintf("%s stands where %s is wanted", map[string]string{"seq": "a list", "map": "a section of keys"}[m[1]], kindOf(m[2]))
		if key := holderAt(lines, line); key != "" {
			what = key + ": " + what
		}
	} else {
		if m := yamlForms().kind.FindStringSubmatch(what); m != nil {
			what = fmt.Sprintf("%s is not %s", m[1], kindOf(m[2]))
		}
		if key := keyAt(lines, line); key != "" {
			what = key + ": " + what
		}
	}
	return fmt.Errorf("%s:%d: %s", f.path, line, what)
}

// kindOf names what is wanted where a value of a Go type is read.
func kindOf(goType string) string {
	switch {
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "text"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "a section of keys"
}

// keyAt is the innermost key that stands on the line, "" when none or several
// do.
func keyAt(lines map[string]int, line int) string {
	found := ""
	for key, l := range lines {
		switch {
		case l != line:
		case found == "" || strings.HasPrefix(key, found):
			found = key
		case !strings.HasPrefix(found, key):
			return ""
		}
	}
	return found
}

// holderAt is the key of the list or section that begins on the line: it stands there
// itself or, written as a block, above.
func holderAt(lines map[string]int, line int) string {
	if item := keyAt(lines, line); item != "" {
		return item[:max(0, strings.LastIndexAny(item, ".["))]
	}
	outer := ""
	for key, l := range lines {
		if l == line && (outer == "" || len(key) < len(outer)) {
			outer = key
		}
	}
	return outer
}

// wrong is a fault of one value: the decoder goes on, and tells of all of them.
func wrong(node *yaml.Node, format string, args ...any) error {
	return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: ", node.Line) + fmt.Sprintf(format, args...)}}
}

// Duration is a time.Duration in a configuration.
type Duration time.Duration

// UnmarshalYAML takes Go's durations, with d and w besides, and plain seconds.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return wrong(node, "a duration is wanted, as in 90s or 30d")
	}
	if v, err := time.ParseDuration(node.Value); err == nil && v == 0 {
		*d = 0 // here it switches something off; a ban's duration is never zero
		return nil
	}
	v, err := control.ParseDuration(node.Value)
	if err != nil {
		return wrong(node, "%v", err)
	}
	*d = Duration(v)
	return nil
}

// Prefix is a netip.Prefix in a configuration; a bare address is its /32 or
// /128.
type Prefix struct{ netip.Prefix }

// UnmarshalYAML refuses host bits, zones and host names.
func (p *Prefix) UnmarshalYAML(node *yaml.Node) error {
	v, err := control.ParsePrefix(node.Value)
	if node.Kind != yaml.ScalarNode || err != nil {
		return wrong(node, "%q is not a prefix: an address, or ADDRESS/BITS without host bits, is wanted", node.Value)
	}
	p.Prefix = v
	return nil
}

// parseAdvertise takes IP or IP:port; without a port it is the bound one.
func parseAdvertise(text string, port uint16) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, port), nil
	}
	return netip.ParseAddrPort(text)
}

// CheckHostPort allows what names a port at a host.
func CheckHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return errors.New("is not HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("has the port %q: 1..65535 is wanted", port)
	}
	return nil
}
