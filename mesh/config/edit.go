package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Setting is a key of the configuration, dotted, with the value that it is to have.
type Setting struct {
	Key   string
	Value any // string, bool, a number, or a list or map of them
}

func (s Setting) String() string { return s.Key + ": " + flow(s.Value) }

// Edit gives the text of a configuration settings, and touches nothing else in it: comments, order and form stay. A key
// that has another value than the default already, and another than asked for, stays; kept names them as they stand. A name
// that the package wrote gives way. The result is a text that Load reads, and in which the settings have their values.
// The library's own encoder would reformat the file and drop blank lines. So places are taken from its parse tree, and the
// text is edited by hand. What was edited is parsed again and compared, since an edit that is slightly wrong could change
// another key.
func Edit(path string, text []byte, settings []Setting) (edited []byte, set, kept []Setting, err error) {
	if named(settings) {
		text = unnamed(text)
	}
	before, err := Parse(path, text)
	if err != nil {
		return nil, nil, nil, err
	}
	own := Default()
	own.Name = "" // the host's name is none that somebody has given
	edited = text
	for _, s := range settings {
		now, fallback := fieldOf(reflect.ValueOf(before.Config), s.Key), fieldOf(reflect.ValueOf(own), s.Key)
		if !now.IsValid() {
			return nil, nil, nil, fmt.Errorf("%s: this version of banmesh does not know the key %s: install the version that the mesh runs", path, s.Key)
		}
		_, there := before.line[s.Key]
		switch {
		case there && same(plainValue(now), s.Value):
			continue
		case there && !same(plainValue(now), plainValue(fallback)) && !now.IsZero():
			kept = append(kept, Setting{s.Key, plainValue(now)})
			continue
		}
		if edited, err = setKey(edited, s); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %s cannot be set there without harm, set it yourself: %w", path, s, err)
		}
		set = append(set, s)
	}
	after, err := Parse(path, edited)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("what would be written is no configuration: %w", err)
	}
	for _, s := range set {
		if now := plainValue(fieldOf(reflect.ValueOf(after.Config), s.Key)); !same(now, s.Value) {
			return nil, nil, nil, fmt.Errorf("%s: %s cannot be set there without harm, set it yourself", path, s)
		}
	}
	for _, key := range differing(reflect.ValueOf(before.Config), reflect.ValueOf(after.Config), "") {
		if !slices.ContainsFunc(set, func(s Setting) bool { return s.Key == key }) {
			return nil, nil, nil, fmt.Errorf("%s: setting the keys would change %s as well: set them yourself: %v", path, key, set)
		}
	}
	return edited, set, kept, nil
}

// same compares a value of the configuration with one that was asked for, which may have come as JSON.
func same(a, b any) bool { return flow(a) == flow(b) }

// bare are texts that mean themselves in YAML without quotes.
var bare = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9._/-]*$`)

// flow writes a value in one line of YAML.
func flow(v any) string {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.String:
		var back any
		if s := r.String(); bare.MatchString(s) && yaml.Unmarshal([]byte(s), &back) == nil && back == any(s) {
			return s
		}
	case reflect.Slice:
		items := make([]string, r.Len())
		for i := range items {
			items[i] = flow(r.Index(i).Interface())
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		for _, k := range r.MapKeys() {
			items = append(items, flow(k.Interface())+": "+flow(r.MapIndex(k).Interface()))
		}
		slices.Sort(items)
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.Float64: // a number that came as JSON
		if f := r.Float(); f == float64(int64(f)) {
			return fmt.Sprint(int64(f))
		}
	case reflect.Struct:
		if p, ok := v.(Prefix); ok {
			return flow(p.String())
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

var errForm = errors.New("it stands there in a form that is not edited")

// setKey gives one key its value in the text.
func setKey(text []byte, s Setting) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	at := &yaml.Node{Kind: yaml.MappingNode} // an empty file
	if len(doc.Content) > 0 {
		at = doc.Content[0]
	}
	words := strings.Split(s.Key, ".")
	above := 0 // the line of the key whose mapping at is
	for i, word := range words {
		k := slices.IndexFunc(pairs(at), func(p [2]*yaml.Node) bool { return p[0].Value == word })
		if k < 0 {
			return insert(text, at, above, i, words, s)
		}
		key, value := pairs(at)[k][0], pairs(at)[k][1]
		switch {
		case i == len(words)-1:
			return replace(text, key, value, flow(s.Value))
		case value.Kind != yaml.MappingNode && value.Tag == "!!null":
			return insertAfter(text, key.Line, key.Column+1, words[i+1:], s)
		case value.Kind != yaml.MappingNode:
			return nil, errForm
		}
		at, above = value, key.Line
	}
	return nil, errForm
}

// pairs gives a mapping's keys with their values, which yaml.Node keeps in one list.
func pairs(m *yaml.Node) (out [][2]*yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		out = append(out, [2]*yaml.Node{m.Content[i], m.Content[i+1]})
	}
	return out
}

// offset is where a line and column of YAML's, from 1, are in the text.
func offset(text []byte, line, column int) int {
	at := 0
	for range line - 1 {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			return len(text)
		}
		at += n + 1
	}
	// YAML counts columns in characters, the text is in bytes.
	rest := []rune(string(text[at:min(len(text), at+4096)]))
	return at + len(string(rest[:min(len(rest), column-1)]))
}

// replace writes another value behind a key.
func replace(text []byte, key, value *yaml.Node, to string) ([]byte, error) {
	if value.Kind == yaml.ScalarNode && value.Value == "" && value.Style == 0 { // `key:` alone
		end := offset(text, key.Line, key.Column) + len(key.Value)
		if end >= len(text) || text[end] != ':' {
			return nil, errForm
		}
		return splice(text, end+1, end+1, " "+to), nil
	}
	start := offset(text, value.Line, value.Column)
	end, err := endOf(text[start:], value)
	if err != nil {
		return nil, err
	}
	return splice(text, start, start+end, to), nil
}

// endOf is the length of a value's text.
func endOf(text []byte, value *yaml.Node) (int, error) {
	switch {
	case value.Kind == yaml.ScalarNode && value.Style == 0 && bytes.HasPrefix(text, []byte(value.Value)):
		return len(value.Value), nil
	case value.Kind == yaml.ScalarNode && value.Style == yaml.DoubleQuotedStyle, value.Kind == yaml.ScalarNode && value.Style == yaml.SingleQuotedStyle,
		(value.Kind == yaml.SequenceNode || value.Kind == yaml.MappingNode) && value.Style == yaml.FlowStyle:
	default:
		return 0, errForm
	}
	depth, quote := 0, byte(0)
	for i, c := range text {
		switch {
		case quote != 0:
			// An escaped quote does not end the string, and where it ends would need YAML's rules for escapes.
			if c == '\\' && quote == '"' {
				return 0, errForm // rare in a configuration, and not worth a parser
			}
			if c == quote {
				quote = 0
			}
		// A comment inside a list may hold brackets and quotes that do not count.
		case c == '#':
			return 0, errForm
		case c == '"' || c == '\'':
			quote = c
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth == 0 && quote == 0 {
			return i + 1, nil
		}
	}
	return 0, errForm
}

func splice(text []byte, from, to int, with string) []byte {
	return slices.Concat(text[:from], []byte(with), text[to:])
}

// insert adds the words from i on to a mapping that lacks them, below the line of its key.
func insert(text []byte, m *yaml.Node, above, i int, words []string, s Setting) ([]byte, error) {
	switch {
	case i == 0:
		line := nested(words, s.Value, 0)
		// The shipped configuration names the key in a comment, where people look for it.
		if hint := regexp.MustCompile(`(?m)^# ` + regexp.QuoteMeta(words[0]) + `: .*\n`).FindIndex(text); hint != nil && len(words) == 1 {
			return splice(text, hint[0], hint[1], line), nil
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			line = "\n" + line
		}
		return append(slices.Clone(text), line...), nil
	case m.Style == yaml.FlowStyle:
		start := offset(text, m.Line, m.Column)
		if start >= len(text) || text[start] != '{' {
			return nil, errForm
		}
		inner, after := flow(s.Value), ""
		for j := len(words) - 1; j > i; j-- {
			inner = "{" + words[j] + ": " + inner + "}"
		}
		if len(m.Content) > 0 {
			after = ", "
		}
		return splice(text, start+1, start+1, words[i]+": "+inner+after), nil
	case len(m.Content) == 0:
		return nil, errForm
	}
	return insertAfter(text, above, m.Content[0].Column-1, words[i:], s)
}

// insertAfter adds a line, indented by columns, behind a line.
func insertAfter(text []byte, line, columns int, words []string, s Setting) ([]byte, error) {
	at := offset(text, line+1, 1)
	more := nested(words, s.Value, columns)
	if at > 0 && text[at-1] != '\n' {
		more = "\n" + more
	}
	return splice(text, at, at, more), nil
}

// nested writes words below each other, the last with the value.
func nested(words []string, value any, columns int) string {
	var b strings.Builder
	for i, word := range words {
		fmt.Fprintf(&b, "%s%s:", strings.Repeat(" ", columns+2*i), word)
		if i == len(words)-1 {
			b.WriteString(" " + flow(value))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
