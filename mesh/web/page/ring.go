package page

import (
	"fmt"
	"math"
	"unicode/utf8"

	"banmesh/mesh/control"
)

// The picture of the ring, in its own units.
const (
	ringWidth  = 520
	ringHeight = 375
	ringRadius = 120

	mostNodes    = 8 // for more, a list says more than a picture
	nodeSize     = 15
	longestLabel = 11 // runes of a name
)

// ring is the picture of the routers.
type ring struct {
	Width, Height, Radius int
	CX, CY                float64
	Nodes                 []node
	Middle, Under         string
	Summary               string // describes the picture for people who cannot see it
}

// node is one router in the picture.
type node struct {
	Name, Class, Title string
	X, Y, R            string
	Leader, Self       bool
	Cross              string // path that strikes out a router that does not answer
	Halo               string // radius of the leader's second circle
	Label, Note        string
	LX, LY, NY, Anchor string
}

// drawRing draws nothing beyond mostNodes, as the nodes would overlap; the table below has them all.
func drawRing(members []control.Member, leader string) ring {
	g := ring{Width: ringWidth, Height: ringHeight, Radius: ringRadius, CX: ringWidth / 2, CY: ringHeight / 2}
	n := len(members)
	if n > mostNodes {
		return g
	}
	inSync, alive := 0, 0
	for i := range members {
		m := &members[i]
		state := memberState(m)
		if m.State == "alive" {
			alive++
			if m.InSync || m.Self {
				inSync++
			}
		}
		g.Nodes = append(g.Nodes, placed(&g, m, state, 2*math.Pi*float64(i)/float64(n)))
	}
	g.Middle, g.Under = counted(alive, "router", "routers"), fmt.Sprintf("%s in sync", number(inSync))
	if alive == inSync {
		g.Under = "in sync"
	}
	g.Summary = fmt.Sprintf("%s of %s answer, %s in sync; ", number(alive), counted(n, "router", "routers"), number(inSync))
	if leader == "" {
		g.Summary += "none leads."
	} else {
		g.Summary += leader + " leads."
	}
	return g
}

// placed puts a node at its angle, clockwise from the top, and its name outside the ring, on the side where
// there is room.
func placed(g *ring, m *control.Member, state pill, angle float64) node {
	const size float64 = nodeSize
	sin, cos := math.Sincos(angle)
	x, y := g.CX+ringRadius*sin, g.CY-ringRadius*cos
	d := node{
		Name: m.Name, Class: state.Class, Leader: m.Leader, Self: m.Self,
		X: px(x), Y: px(y), R: px(size), Halo: px(size + 5), Title: m.Name + ": " + state.Text,
	}
	if m.Leader {
		d.Title += ", leads"
	}
	if m.State == "failed" {
		a := size * 0.45
		d.Cross = fmt.Sprintf("M%s %sL%s %sM%s %sL%s %s", px(x-a), px(y-a), px(x+a), px(y+a), px(x-a), px(y+a), px(x+a), px(y-a))
	}
	d.Label = shorten(m.Name)
	switch {
	case m.Leader:
		d.Note = "leader"
	case state.Class != "ok":
		d.Note = state.Text
	case !m.Self && (m.SkewMS >= skewShown || m.SkewMS <= -skewShown):
		d.Note = "clock " + skew(m.SkewMS)
	case m.Self:
		d.Note = "this router"
	default:
		d.Note = skew(m.SkewMS)
	}
	away := ringRadius + size + 14
	lx, ly := g.CX+away*sin, g.CY-away*cos
	d.Anchor = "middle"
	switch {
	case sin > 0.3:
		d.Anchor = "start"
	case sin < -0.3:
		d.Anchor = "end"
	}
	const line = 19 // distance of the note below the name
	switch {
	case d.Anchor != "middle" && d.Note == "":
		ly += 5
	case d.Anchor != "middle":
		ly -= 2
	case cos > 0 && d.Note != "":
		ly -= line
	case cos > 0:
	default:
		ly += line / 2
	}
	d.LX, d.LY, d.NY = px(lx), px(ly), px(ly+line)
	return d
}

func px(f float64) string { return fmt.Sprintf("%.1f", f) }

// shorten counts characters and not bytes: names need not be ASCII.
func shorten(name string) string {
	if utf8.RuneCountInString(name) <= longestLabel {
		return name
	}
	return string([]rune(name)[:longestLabel-1]) + "…"
}
