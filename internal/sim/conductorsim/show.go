package conductorsim

import (
	"fmt"
	"strings"
)

// ShowTenant prints a tenant of the running configuration as the device's CLI does after
// `show config running authority tenant NAME`; ok is false when there is no such tenant.
func (s *Sim) ShowTenant(name string) (text string, ok bool) {
	tenant := s.Running().authority().Child("tenant", name)
	if tenant == nil {
		return "", false
	}
	var b strings.Builder
	b.WriteString("config\n\n    authority\n\n")
	show(&b, tenant, "name", 8)
	b.WriteString("    exit\nexit\n")
	return b.String(), true
}

// show prints a list entry: its name and key, its leaves in a column, then what is in it.
func show(b *strings.Builder, n *Node, key string, indent int) {
	pad := strings.Repeat(" ", indent)
	fmt.Fprintf(b, "%s%s  %s\n", pad, n.Name.Local, quoteWord(n.Key))
	width := 0
	for _, c := range n.Children {
		if c.Kind == Leaf || c.Kind == LeafList {
			width = max(width, len(c.Name.Local))
		}
	}
	for _, c := range n.Children {
		if c.Kind == Leaf || c.Kind == LeafList {
			fmt.Fprintf(b, "%s    %-*s  %s\n", pad, width, c.Name.Local, quoteWord(c.Value))
		}
	}
	for _, c := range n.Children {
		if c.Kind == Container || c.Kind == List {
			b.WriteString("\n")
			show(b, c, key, indent+4)
		}
	}
	fmt.Fprintf(b, "%sexit\n", pad)
}

// quoteWord quotes what is not one word.
func quoteWord(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\"\n") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	return s
}
