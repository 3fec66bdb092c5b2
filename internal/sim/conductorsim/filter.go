package conductorsim

import (
	"encoding/xml"
	"slices"
)

// filterSubtree returns what a subtree filter (RFC 6241 §6) selects from root. Content matches compare whole values, and as
// on real servers, a filter that names an address selects the whole member with that address.
func filterSubtree(root *Node, filter *Element) *Node {
	out := *root
	out.Children = selectSiblings(root.Children, filter.Children)
	return &out
}

// selectSiblings selects among sibling nodes by sibling filters.
func selectSiblings(nodes []*Node, filters []*Element) []*Node {
	if len(filters) == 0 {
		return nil
	}
	var out []*Node
	for _, n := range nodes {
		var got *Node
		for _, f := range filters {
			if filterNames(f, n) {
				got = unite(got, selectOne(n, f))
			}
			if got == n {
				break
			}
		}
		if got != nil {
			out = append(out, got)
		}
	}
	return out
}

// filterNames reports whether a filter element names a node; without a namespace it matches all namespaces.
func filterNames(f *Element, n *Node) bool {
	if f.Name.Local != n.Name.Local || f.Name.Space != "" && f.Name.Space != n.Name.Space {
		return false
	}
	// Attributes must match too, and no node of the device has any.
	return !slices.ContainsFunc(f.Attrs, func(a xml.Attr) bool { return !isDeclaration(a) })
}

// selectOne returns what f selects of n: n itself if everything, nil if nothing.
func selectOne(n *Node, f *Element) *Node {
	leaf := n.Kind == Leaf || n.Kind == LeafList
	if leaf {
		if len(f.Children) > 0 || f.Text != "" && f.Text != n.Value {
			return nil
		}
		return n
	}
	if len(f.Children) == 0 {
		if f.Text != "" {
			return nil
		}
		return n
	}
	var match, rest []*Element
	for _, c := range f.Children {
		if c.Text != "" && len(c.Children) == 0 {
			match = append(match, c)
		} else {
			rest = append(rest, c)
		}
	}
	for _, m := range match {
		if !slices.ContainsFunc(n.Children, func(c *Node) bool { return filterNames(m, c) && selectOne(c, m) != nil }) {
			return nil
		}
	}
	if len(rest) == 0 {
		return n
	}
	kids := selectSiblings(n.Children, f.Children)
	if len(kids) == 0 {
		return nil
	}
	out := *n
	out.Children = kids
	if n.Kind == List {
		out.Children = withKey(n, kids)
	}
	return &out
}

// withKey adds the key of a list entry to what was selected from it: a server may do that, and all do.
func withKey(n *Node, kids []*Node) []*Node {
	key := n.Children[0]
	if slices.Contains(kids, key) {
		return kids
	}
	return append([]*Node{key}, kids...)
}

// unite combines two selections from one node.
func unite(a, b *Node) *Node {
	switch {
	case a == nil || a == b:
		return b
	case b == nil:
		return a
	case a.Kind == Leaf || a.Kind == LeafList:
		return a
	}
	out := *a
	index := make(map[ident]int, len(a.Children))
	out.Children = slices.Clone(a.Children)
	for i, c := range a.Children {
		index[c.ident()] = i
	}
	for _, c := range b.Children {
		if i, ok := index[c.ident()]; ok {
			out.Children[i] = unite(out.Children[i], c)
			continue
		}
		out.Children = append(out.Children, c)
	}
	return &out
}
