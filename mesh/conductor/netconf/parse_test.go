package netconf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
	"banmesh/netconfclient"
)

var testKey = conductor.Key{Tenant: "t", Neighborhood: "n"}

func reply(id, inner string) []byte {
	return []byte(`<rpc-reply xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="` + id + `">` + inner + `</rpc-reply>`)
}

func TestForeignTextIsReadTolerantly(t *testing.T) {
	content := `<x:config xmlns:x="` + nsConfig + `"><a:authority xmlns:a="` + nsAuthority + `">
	  <a:tenant><a:name>other</a:name><a:member><a:neighborhood>n</a:neighborhood><a:address>192.0.2.9/32</a:address></a:member></a:tenant>
	  <a:tenant><a:member><a:address> 10.1.2.3/8 </a:address><a:address>10.0.0.0/8</a:address><a:address>10.1.2.3/8</a:address>
	     <a:address>192.0.2.1</a:address><a:address>2001:DB8::1/128</a:address><a:address>no prefix</a:address><a:address/>
	     <a:neighborhood>n</a:neighborhood></a:member>
	     <a:member><a:neighborhood>m</a:neighborhood><a:address>192.0.2.77/32</a:address></a:member>
	     <a:name>t</a:name><!-- c --><a:description>d</a:description></a:tenant></a:authority></x:config>`
	got, err := parseTenant(&netconfclient.Reply{Raw: reply("1", "<data>"+content+"</data>")}, testKey)
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"} {
		want = append(want, netip.MustParsePrefix(p))
	}
	if !slices.Equal(got.Addresses, want) || !got.Exists || !got.Member || got.Description != "d" {
		t.Errorf("got %+v", got)
	}
	for i, texts := range [][]string{{"10.1.2.3/8", "10.0.0.0/8"}, {"192.0.2.1"}, {"2001:DB8::1/128"}} {
		if got := got.Texts(want[i]); !slices.Equal(got, texts) {
			t.Errorf("%v is spelled %q, want %q", want[i], got, texts)
		}
	}
	if !slices.Equal(got.Unread, []string{"", "no prefix"}) {
		t.Errorf("unread %q", got.Unread)
	}
}

func TestOnlyTheOrderOfOurAddressesIsFree(t *testing.T) {
	wrap := func(authority string) *netconfclient.Reply {
		return &netconfclient.Reply{Raw: reply("1", `<data><config xmlns="`+nsConfig+`"><authority xmlns="`+nsAuthority+`">`+authority+`</authority></config></data>`)}
	}
	tenant := func(name, inner string) string { return "<tenant><name>" + name + "</name>" + inner + "</tenant>" }
	ours := func(addresses ...string) string {
		return tenant("t", "<member><neighborhood>n</neighborhood><address>"+strings.Join(addresses, "</address><address>")+"</address></member>")
	}
	base := ours("10.0.0.1/32", "10.0.0.2/32") + tenant("x", "")
	for name, c := range map[string]struct {
		candidate       string
		clean, onlyOurs bool
	}{
		"same":               {base, true, true},
		"other order":        {ours("10.0.0.2/32", "10.0.0.1/32") + tenant("x", ""), true, true},
		"other spelling":     {ours("10.0.0.1", "10.0.0.2/32") + tenant("x", ""), true, true},
		"tenants swapped":    {tenant("x", "") + ours("10.0.0.1/32", "10.0.0.2/32"), true, true},
		"white space":        {strings.ReplaceAll(base, "><", ">\n <"), true, true},
		"one added":          {ours("10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32") + tenant("x", ""), false, true},
		"one removed":        {ours("10.0.0.1/32") + tenant("x", ""), false, true},
		"garbage added":      {ours("10.0.0.1/32", "10.0.0.2/32", "x") + tenant("x", ""), false, false},
		"other tenant added": {base + tenant("y", ""), false, false},
		"other tenant gone":  {ours("10.0.0.1/32", "10.0.0.2/32"), false, false},
		"our tenant gone":    {tenant("x", ""), false, false},
		"described":          {tenant("t", "<description>by hand</description>") + base, false, false},
		"other member":       {tenant("t", "<member><neighborhood>m</neighborhood></member>") + base, false, false},
		"beside the tenants": {base + "<router><name>r</name></router>", false, false},
	} {
		v, err := compareReplies(wrap(base), wrap(c.candidate), testKey)
		if err != nil {
			t.Fatal(err)
		}
		v.Explain("ours")
		if v.Clean() != c.clean || v.OnlyOurs() != c.onlyOurs {
			t.Errorf("%s: clean %v, only ours %v, want %v, %v (%s)", name, v.Clean(), v.OnlyOurs(), c.clean, c.onlyOurs, v.Detail())
		}
	}
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`<config xmlns="` + nsConfig + `"><authority xmlns="` + nsAuthority + `"><tenant><name>t</name><member><neighborhood>n</neighborhood><address>10.0.0.1/32</address></member></tenant></authority></config>`))
	f.Add([]byte(`<config/>`))
	f.Fuzz(func(t *testing.T, content []byte) {
		msg := reply("1", "<data>"+string(content)+"</data>")
		r := &netconfclient.Reply{Raw: msg}
		got, err := parseTenant(r, testKey)
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(got.Addresses, prefixset.Compare) {
			t.Fatal("not sorted")
		}
		for _, p := range got.Addresses {
			if p != p.Masked() || len(got.Texts(p)) == 0 {
				t.Fatalf("%v is spelled %q", p, got.Texts(p))
			}
			for _, text := range got.Texts(p) {
				if q, _, ok := prefixset.Parse(text); !ok || q != p {
					t.Fatalf("%q is not %v", text, p)
				}
			}
		}
		// What is equal to itself is clean, whatever it is.
		v, err := compareReplies(r, r, testKey)
		if err != nil {
			t.Fatal(err)
		}
		v.Explain("d")
		if !v.Clean() {
			t.Fatalf("%+v", v)
		}
	})
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := DefaultConfig()
	good.Addresses, good.KeyFile, good.KnownHosts = []string{"192.0.2.1:830", "[2001:db8::1]:830", "conductor:830"}, "k", "h"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"addresses":    func(c *Config) { c.Addresses = nil },
		`"192.0.2.1"`:  func(c *Config) { c.Addresses = []string{"192.0.2.1"} },
		"1 to 65535":   func(c *Config) { c.Addresses = []string{"192.0.2.1:65536"} },
		"no usable":    func(c *Config) { c.Addresses = []string{"a b:1"} },
		"user":         func(c *Config) { c.User = "" },
		"key file":     func(c *Config) { c.KeyFile = "" },
		"known hosts":  func(c *Config) { c.KnownHosts = "" },
		`tenant "a.b"`: func(c *Config) { c.Tenant = "a.b" },
		"neighborhood": func(c *Config) { c.Neighborhood = "-" },
		"description":  func(c *Config) { c.Description = "a\nb" },
		"validation":   func(c *Config) { c.Validation = "remote" },
		"validate":     func(c *Config) { c.ValidateMode = "maybe" },
		"timeout":      func(c *Config) { c.Timeout = -1 },
		"dial timeout": func(c *Config) { c.DialTimeout = 0 },
		"max reply":    func(c *Config) { c.MaxReply = 1 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is not said in %v", want, err)
		}
	}
}

// A commit that knows no validation-type is told from one that refuses what the candidate holds.
func TestACommitWithoutTheLeaf(t *testing.T) {
	for name, c := range map[string]struct {
		errs netconfclient.RPCErrors
		want bool
	}{
		"named":             {netconfclient.RPCErrors{{Tag: "unknown-element", Info: []string{"bad-element=validation-type"}}}, true},
		"in its message":    {netconfclient.RPCErrors{{Tag: "unknown-namespace", Message: "urn:128technology:netconf:validate-type:1.0"}}, true},
		"not named":         {netconfclient.RPCErrors{{Tag: "unknown-element"}}, true},
		"an address":        {netconfclient.RPCErrors{{Tag: "unknown-element", Info: []string{"bad-element=address"}}}, false},
		"another complaint": {netconfclient.RPCErrors{{Tag: "unknown-element"}, {Tag: "operation-failed"}}, false},
	} {
		if got := refusesLeaf(c.errs); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
