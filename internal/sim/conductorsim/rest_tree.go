package conductorsim

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// place is what a REST path names: a container, a list entry, or a whole list.
type place struct {
	steps []placeStep
	list  *schema // the last step is this list without a key
}

type placeStep struct {
	sch *schema
	key string // List: of the entry
}

// findPlace reads a path like authority/tenant/black/member/internet.
func findPlace(path string) (place, error) {
	var p place
	sch, _ := deviceSchema().child(xml.Name{Space: nsT128, Local: "config"})
	p.steps = append(p.steps, placeStep{sch: sch})
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i := 0; i < len(segments); i++ {
		next := childNamed(sch, segments[i])
		if next == nil || next.kind == Leaf || next.kind == LeafList {
			return p, &restError{http.StatusNotFound, fmt.Sprintf("there is no resource %q", clip(path))}
		}
		sch = next
		if sch.kind != List {
			p.steps = append(p.steps, placeStep{sch: sch})
			continue
		}
		if i++; i == len(segments) {
			p.list = sch
			break
		}
		key, err := url.PathUnescape(segments[i])
		if err != nil {
			return p, &restError{http.StatusBadRequest, fmt.Sprintf("%q is no path segment", clip(segments[i]))}
		}
		p.steps = append(p.steps, placeStep{sch, key})
	}
	return p, nil
}

// childNamed finds a child by its local name: JSON has no namespaces.
func childNamed(s *schema, local string) *schema {
	if s == nil {
		return nil
	}
	for _, c := range s.children {
		if c.name.Local == local {
			return c
		}
	}
	return nil
}

// node finds the node that p names, or the one that the list is in.
func (p place) node(root *Node) *Node {
	n := root
	for _, s := range p.steps {
		if n = n.Child(s.sch.name.Local, s.key); n == nil {
			return nil
		}
	}
	return n
}

// parent is what p is in.
func (p place) parent() place {
	if p.list != nil {
		return place{steps: p.steps}
	}
	return place{steps: p.steps[:len(p.steps)-1]}
}

// read returns p's content as JSON has it.
func (p place) read(root *Node) (any, bool) {
	n := p.node(root)
	if n == nil {
		return nil, false
	}
	if p.list == nil {
		return object(n), true
	}
	entries := []any{}
	for c := range n.All(p.list.name.Local) {
		entries = append(entries, object(c))
	}
	return entries, true
}

// object makes a JSON object of a container or list entry.
func object(n *Node) map[string]any {
	out := make(map[string]any)
	for _, c := range n.Children {
		name := c.Name.Local
		switch c.Kind {
		case Leaf:
			out[name] = c.Value
		case LeafList:
			list, _ := out[name].([]string)
			out[name] = append(list, c.Value)
		case Container:
			out[name] = object(c)
		case List:
			list, _ := out[name].([]any)
			out[name] = append(list, object(c))
		}
	}
	return out
}

// edit wraps what is inside of the last step into its way from the root, as an edit-config would have it.
func (p place) edit(inside ...*Element) *Element {
	for _, s := range slices.Backward(p.steps) {
		e := &Element{Name: s.sch.name}
		if s.sch.kind == List {
			e.Children = append(e.Children, &Element{Name: xml.Name{Space: s.sch.name.Space, Local: s.sch.key}, Text: s.key})
		}
		e.Children = append(e.Children, inside...)
		inside = []*Element{e}
	}
	return &Element{Children: inside}
}

// operation marks an element of an edit.
func operation(e *Element, op string) *Element {
	e.Attrs = append(e.Attrs, xml.Attr{Name: xml.Name{Space: nsBase, Local: "operation"}, Value: op})
	return e
}

// entry is the element that p, which must name a list entry, stands for, and p's parent.
func (p place) entry() (parent place, last placeStep, err error) {
	n := len(p.steps) - 1
	if p.list != nil || p.steps[n].sch.kind != List {
		return p, placeStep{}, &restError{http.StatusMethodNotAllowed, "only a list's entries can be written"}
	}
	return place{steps: p.steps[:n]}, p.steps[n], nil
}

// create is POST of a new entry to a list.
func (p place) create(body map[string]any) (*Element, error) {
	if p.list == nil {
		return nil, &restError{http.StatusMethodNotAllowed, "only to a list can be posted"}
	}
	e, err := elements(p.list, body)
	if err != nil {
		return nil, err
	}
	return p.edit(operation(e, opCreate)), nil
}

// put is PUT of a whole entry.
func (p place) put(body map[string]any) (*Element, error) {
	parent, last, err := p.entry()
	if err != nil {
		return nil, err
	}
	body[last.sch.key] = last.key
	e, err := elements(last.sch, body)
	if err != nil {
		return nil, err
	}
	return parent.edit(operation(e, opReplace)), nil
}

// delete is DELETE of an entry.
func (p place) delete() (*Element, error) {
	parent, last, err := p.entry()
	if err != nil {
		return nil, err
	}
	return parent.edit(operation(&Element{Name: last.sch.name, Children: []*Element{
		{Name: xml.Name{Space: last.sch.name.Space, Local: last.sch.key}, Text: last.key}}}, opDelete)), nil
}

// patch is PATCH of an entry: it merges, except that lists of values are replaced where the device does it so.
func (p place) patch(root *Node, body map[string]any, replaces bool) (*Element, error) {
	parent, last, err := p.entry()
	if err != nil {
		return nil, err
	}
	old := p.node(root)
	if old == nil {
		return nil, &restError{http.StatusNotFound, fmt.Sprintf("there is no %s %q", last.sch.name.Local, clip(last.key))}
	}
	body[last.sch.key] = last.key
	e, err := elements(last.sch, body)
	if err != nil {
		return nil, err
	}
	if replaces {
		given := make(map[xml.Name]map[string]bool)
		for name := range body {
			if c := childNamed(last.sch, name); c != nil && c.kind == LeafList {
				given[c.name] = make(map[string]bool)
			}
		}
		for _, c := range e.Children {
			if values := given[c.Name]; values != nil {
				values[c.Text] = true
			}
		}
		for _, c := range old.Children {
			if values := given[c.Name]; values != nil && !values[c.Value] {
				e.Children = append(e.Children, operation(&Element{Name: c.Name, Text: c.Value}, opRemove))
			}
		}
	}
	return parent.edit(e), nil
}

// elements makes of a JSON object what an edit-config would have for it.
func elements(sch *schema, body map[string]any) (*Element, error) {
	e := &Element{Name: sch.name}
	names := make([]string, 0, len(body))
	for name := range body {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := childNamed(sch, name)
		if c == nil {
			return nil, &restError{http.StatusBadRequest, fmt.Sprintf("%s has no field %q", sch.name.Local, clip(name))}
		}
		children, err := values(c, body[name])
		if err != nil {
			return nil, err
		}
		e.Children = append(e.Children, children...)
	}
	return e, nil
}

// values makes the elements of one field.
func values(sch *schema, v any) ([]*Element, error) {
	wrong := &restError{http.StatusBadRequest, fmt.Sprintf("field %q is not of the right kind", sch.name.Local)}
	switch sch.kind {
	case Leaf:
		text, ok := scalar(v)
		if !ok {
			return nil, wrong
		}
		return []*Element{{Name: sch.name, Text: text}}, nil
	case Container:
		body, ok := v.(map[string]any)
		if !ok {
			return nil, wrong
		}
		e, err := elements(sch, body)
		return []*Element{e}, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, wrong
	}
	var out []*Element
	for _, item := range list {
		if sch.kind == LeafList {
			text, ok := scalar(item)
			if !ok {
				return nil, wrong
			}
			out = append(out, &Element{Name: sch.name, Text: text})
			continue
		}
		body, ok := item.(map[string]any)
		if !ok {
			return nil, wrong
		}
		e, err := elements(sch, body)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// scalar writes a JSON value as XML has it.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v), true
	case bool:
		return fmt.Sprint(v), true
	case float64:
		b, err := json.Marshal(v)
		return string(b), err == nil
	}
	return "", false
}
