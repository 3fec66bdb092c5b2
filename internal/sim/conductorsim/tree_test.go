package conductorsim

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// someConfig draws a configuration of few names, so that two of them often touch the same.
func someConfig(t *rapid.T, label string) *Element {
	pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label+" "+what) }
	op := func() []xml.Attr {
		o := pick("operation", "", "", opMerge, opRemove, opReplace)
		if o == "" {
			return nil
		}
		return []xml.Attr{{Name: xml.Name{Space: nsBase, Local: "operation"}, Value: o}}
	}
	authority := &Element{Name: xml.Name{Space: nsAuthy, Local: "authority"}}
	leaf := func(local, text string, attrs []xml.Attr) *Element {
		return &Element{Name: xml.Name{Space: nsAuthy, Local: local}, Text: text, Attrs: attrs}
	}
	for range rapid.IntRange(0, 3).Draw(t, label+" tenants") {
		tenant := leaf("tenant", "", op())
		tenant.Children = append(tenant.Children, leaf("name", pick("name", "a", "b"), nil))
		if d := pick("description", "", "x", "y"); d != "" {
			tenant.Children = append(tenant.Children, leaf("description", d, op()))
		}
		member := leaf("member", "", op())
		member.Children = append(member.Children, leaf("neighborhood", pick("neighborhood", "m", "n"), nil))
		for range rapid.IntRange(0, 4).Draw(t, label+" addresses") {
			member.Children = append(member.Children, leaf("address", pick("address", "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"), op()))
		}
		tenant.Children = append(tenant.Children, member)
		authority.Children = append(authority.Children, tenant)
	}
	return &Element{Children: []*Element{{Name: xml.Name{Space: nsT128, Local: "config"}, Children: []*Element{authority}}}}
}

func editedBy(t *rapid.T, root *Node, label string) *Node {
	ed := editor{}
	out := ed.apply(root, someConfig(t, label), opMerge)
	if len(ed.errs) > 0 {
		t.Fatalf("refused: %v", ed.errs)
	}
	return out
}

func TestAnEditChangesNothingOfWhatItWasMadeFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := editedBy(t, &Node{}, "first")
		was := lines(before)
		editedBy(t, before, "second")
		if got := lines(before); !slices.Equal(got, was) {
			t.Fatalf("was %q, is %q", was, got)
		}
	})
}

func TestDifferencesLeadFromOneConfigurationToTheOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := editedBy(t, &Node{}, "a")
		b := editedBy(t, a, "b")
		if rapid.Bool().Draw(t, "unrelated") {
			b = editedBy(t, &Node{}, "b")
		}
		added, removed := diff(a, b)
		got := slices.DeleteFunc(lines(a), func(l string) bool { return slices.Contains(removed, l) })
		got = append(got, added...)
		slices.Sort(got)
		if want := lines(b); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if same(a, b) != (len(added)+len(removed) == 0) {
			t.Fatalf("same is %v with %q added and %q removed", same(a, b), added, removed)
		}
	})
}

func TestConfigurationsSurviveBeingWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := editedBy(t, &Node{}, "a")
		doc, err := MarshalConfig(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseConfig(doc)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := lines(b), lines(a); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestMergeOfOneSidedChangesIsThatSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := editedBy(t, &Node{}, "base")
		mine := editedBy(t, base, "mine")
		for _, sides := range [][2]*Node{{mine, base}, {base, mine}, {mine, mine}} {
			got, conflicts := merge3(base, sides[0], sides[1])
			if len(conflicts) > 0 || !same(got, mine) {
				t.Fatalf("got %q with conflicts %q, want %q", lines(got), conflicts, lines(mine))
			}
		}
	})
}

func TestMergeWithoutConflictsHasBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := editedBy(t, &Node{}, "base")
		mine, theirs := editedBy(t, base, "mine"), editedBy(t, base, "theirs")
		got, conflicts := merge3(base, mine, theirs)
		if len(conflicts) > 0 {
			return
		}
		all := lines(got)
		for _, side := range []*Node{mine, theirs} {
			added, removed := diff(base, side)
			for _, l := range added {
				if !slices.Contains(all, l) {
					t.Fatalf("%s was added and is missing in %q", l, all)
				}
			}
			for _, l := range removed {
				if slices.Contains(all, l) {
					t.Fatalf("%s was removed and is in %q", l, all)
				}
			}
		}
	})
}

func TestSmallEditsOfManyAddressesFindWhatIsThere(t *testing.T) {
	for _, storage := range []Storage{AsGiven, Canonical} {
		first := editor{storage: storage}
		root := first.apply(&Node{}, bigTenant(1000, 1, ""), opMerge)
		for op, want := range map[string]struct{ added, removed, errors int }{
			opMerge: {}, opCreate: {errors: 2}, opDelete: {removed: 2}, opRemove: {removed: 2}, opReplace: {},
		} {
			ed := editor{storage: storage}
			next := ed.apply(root, bigTenant(1000, 500, op), opMerge)
			added, removed := diff(root, next)
			if len(added) != want.added || len(removed) != want.removed || len(ed.errs) != want.errors {
				t.Errorf("%s, %s: %d added, %d removed, errors %v; want %+v", storage, op, len(added), len(removed), ed.errs, want)
			}
		}
		ed := editor{storage: storage}
		grown := ed.apply(root, bigTenant(1_000_001, 500_000, opMerge), opMerge) // one of them is there
		if added, removed := diff(root, grown); len(added) != 2 || len(removed) != 0 {
			t.Errorf("%s: %q added, %q removed, want two added", storage, added, removed)
		}
	}
}

// bigTenant is an edit of every step-th of n addresses of the tenant "black".
func bigTenant(n, step int, op string) *Element {
	leaf := func(local, text string) *Element {
		return &Element{Name: xml.Name{Space: nsAuthy, Local: local}, Text: text}
	}
	member := leaf("member", "")
	member.Children = append(member.Children, leaf("neighborhood", "internet"))
	for i := 0; i < n; i += step {
		a := leaf("address", fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255))
		if op != "" {
			operation(a, op)
		}
		member.Children = append(member.Children, a)
	}
	tenant := leaf("tenant", "")
	tenant.Children = append(tenant.Children, leaf("name", "black"), member)
	authority := leaf("authority", "")
	authority.Children = []*Element{tenant}
	return &Element{Children: []*Element{{Name: xml.Name{Space: nsT128, Local: "config"}, Children: []*Element{authority}}}}
}

func BenchmarkEdit100Of100000(b *testing.B) {
	ed := editor{}
	root := ed.apply(&Node{}, bigTenant(100_000, 1, ""), opMerge)
	change := bigTenant(100_000, 1000, opRemove)
	for b.Loop() {
		ed := editor{}
		next := ed.apply(root, change, opMerge)
		if _, removed := diff(root, next); len(removed) != 100 || len(ed.errs) > 0 {
			b.Fatalf("%d removed, %v", len(removed), ed.errs)
		}
	}
}

func BenchmarkWrite100000(b *testing.B) {
	ed := editor{}
	root := ed.apply(&Node{}, bigTenant(100_000, 1, ""), opMerge)
	for b.Loop() {
		if _, err := MarshalConfig(root); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseXML(f *testing.F) {
	for _, s := range []string{firstRunning, dirtyInvalid, `<a xmlns:b="c"><b:d e="f">&lt;</b:d></a>`, `<a:b/>`, `<!DOCTYPE a><a/>`, `<a/><b/>`, strings.Repeat("<a>", 70)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := parseXML(doc, 20)
		if err != nil {
			return
		}
		ed := editor{storage: Canonical}
		root := ed.apply(&Node{}, &Element{Children: []*Element{e}}, opMerge)
		filterSubtree(root, e)
		if len(ed.errs) > 0 {
			return
		}
		validate(root)
		out, err := MarshalConfig(root)
		if err != nil {
			t.Fatalf("%s: cannot be written: %v", doc, err)
		}
		again, err := ParseConfig(out)
		if err != nil {
			t.Fatalf("%s: written as %s: %v", doc, out, err)
		}
		if !same(root, again) {
			t.Fatalf("%s: %q became %q", doc, lines(root), lines(again))
		}
	})
}

// rw joins what is read and what is written.
type rw struct {
	io.Reader
	io.Writer
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte("\n#4\n<a/>\n##\n"), true)
	f.Add([]byte("<a/>]]>]]><b/>]]>]]>"), false)
	f.Add([]byte("\n#4294967295\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, chunked bool) {
		const limit = 1000
		fr := newFramer(rw{bytes.NewReader(in), io.Discard}, limit)
		fr.chunked = chunked
		for {
			msg, err := fr.read()
			if err != nil {
				return
			}
			if len(msg) > limit {
				t.Fatalf("a message of %d bytes passed", len(msg))
			}
			var out bytes.Buffer
			back := newFramer(rw{&out, &out}, limit)
			back.chunked = chunked
			if err := back.write(msg, 3); err != nil {
				t.Fatal(err)
			}
			if got, err := back.read(); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%q came back as %q, %v", msg, got, err)
			}
		}
	})
}

func FuzzRequest(f *testing.F) {
	sim, err := New(DefaultConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { sim.Close() })
	for _, op := range []string{`<get-config><source><running/></source><filter><config/></filter></get-config>`,
		`<edit-config><target><candidate/></target><config>` + dirtyValid + `</config></edit-config>`,
		`<lock><target><candidate/></target></lock>`, `<validate><source><candidate/></source></validate>`,
		`<copy-config><target><candidate/></target><source><config>` + dirtyInvalid + `</config></source></copy-config>`,
		`<kill-session><session-id>1</session-id></kill-session>`, `<commit><confirmed/></commit>`} {
		f.Add([]byte(`<rpc xmlns="` + nsBase + `" message-id="1">` + op + `</rpc>`))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		var out bytes.Buffer
		actor, ctx, end := sim.enter(Actor{User: "admin", Via: "netconf", Node: 1}, closerFunc(func() {}))
		defer end()
		s := &session{sim: sim, ops: operations{sim: sim, actor: actor}, frame: newFramer(rw{strings.NewReader(""), &out}, 1<<20), conn: closerFunc(func() {})}
		if _, err := s.request(ctx, msg); err != nil {
			t.Fatalf("%s: %v", msg, err)
		}
		answer, err := newFramer(&out, 1<<22).read()
		if err != nil {
			t.Fatalf("%s: no answer: %v", msg, err)
		}
		if e, err := parseXML(answer, 64); err != nil || e.Name.Local != "rpc-reply" {
			t.Fatalf("%s: answered %s: %v", msg, answer, err)
		}
	})
}

func FuzzRESTPath(f *testing.F) {
	f.Add("authority/tenant/black/member/internet", `{"address":["192.0.2.1/32"]}`)
	f.Add("authority/service/web/transport/tcp/port-range", `{"start-port":"1","end-port":2}`)
	root, err := ParseConfig([]byte(dirtyInvalid))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		p, err := findPlace(path)
		if err != nil {
			return
		}
		p.read(root)
		p.parent().node(root)
		if e, err := elements(p.steps[len(p.steps)-1].sch, decodeObject(body)); err == nil {
			ed := editor{}
			ed.apply(root, p.edit(e), opMerge)
		}
	})
}

// decodeObject is a JSON object, or none.
func decodeObject(text string) map[string]any {
	var out map[string]any
	if json.Unmarshal([]byte(text), &out) != nil {
		return nil
	}
	return out
}

func TestFaultsAreReadFromTheCommandLine(t *testing.T) {
	got, err := ParseFault("drop,op=commit,at=in,times=2,node=1")
	if want := (Fault{Kind: FaultDrop, Op: "commit", At: "in", Times: 2, Node: 1}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, text := range []string{"", "earthquake", "drop,at=noon", "drop,colour=red", "slow-commit,for=long", "chunk-size,n=x"} {
		if f, err := ParseFault(text); err == nil {
			t.Errorf("%q was read as %+v", text, f)
		}
	}
}
