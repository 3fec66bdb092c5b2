package conductorsim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"banmesh/internal/sim/conductorsim"
)

func TestSecondSessionIsToldWhoHoldsTheLock(t *testing.T) {
	s := serve(t)
	one, two := s.dial(t), s.dial(t)
	one.ok(lockCandidate)
	if e := two.refused(lockCandidate, "lock-denied"); e.Session != fmt.Sprint(one.Session) {
		t.Errorf("holder %q, want %d", e.Session, one.Session)
	}
	two.refused(edit(tenant("192.0.2.1/32")), "in-use")
	two.refused(commit, "in-use")
	two.refused(discard, "in-use")
	two.refused(unlockCandidate, "operation-failed")
	one.ok(unlockCandidate)
	two.ok(lockCandidate)
}

func TestRunningIsLockedToo(t *testing.T) {
	s := serve(t)
	one, two := s.dial(t), s.dial(t)
	one.ok(lockRunning)
	two.refused(lockRunning, "lock-denied")
	two.ok(edit(tenant("192.0.2.1/32")))
	two.refused(commit, "in-use")
	one.ok(unlockRunning)
	two.ok(commit)
}

func TestEndOfASessionReleasesItsLockAndLeavesItsEdits(t *testing.T) {
	for name, end := range map[string]func(*client){
		"close-session": func(c *client) { c.ok(closeSession) },
		"lost":          func(c *client) { c.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			one, two := s.dial(t), s.dial(t)
			one.ok(lockCandidate)
			one.ok(edit(tenant("192.0.2.1/32")))
			grown := s.History().Grown()
			end(one)
			within(t, "release of the lock", func() {
				for len(s.Sessions()) > 1 {
					<-grown
					grown = s.History().Grown()
				}
			})
			two.refused(lockCandidate, "resource-denied")
			if r := two.ok(getCandidate); !strings.Contains(r.text, "192.0.2.1/32") {
				t.Errorf("the candidate lost the edit: %s", r.text)
			}
			two.ok(discard)
			two.ok(lockCandidate)
		})
	}
}

func TestUnlockDiscardsWhereSoConfigured(t *testing.T) {
	s := serve(t, func(c *conductorsim.Config) { c.DiscardOnUnlock = true })
	one := s.dial(t)
	one.ok(lockCandidate)
	one.ok(edit(tenant("192.0.2.1/32")))
	one.ok(unlockCandidate)
	if r := one.ok(getCandidate); strings.Contains(r.text, "192.0.2.1") {
		t.Errorf("the edit survived: %s", r.text)
	}
}

func TestDialectsSpellRefusalsApart(t *testing.T) {
	for dialect, want := range map[conductorsim.Dialect]struct{ dirty, again, inUse, missing string }{
		conductorsim.DialectResource: {"resource-denied", "lock-denied", "", "/t128:config/authy:authority/authy:tenant[authy:name='black']/authy:member[authy:neighborhood='internet']/authy:address[.='192.0.2.1/32']"},
		conductorsim.DialectFailed:   {"operation-failed", "operation-failed", "1", ""},
	} {
		t.Run(string(dialect), func(t *testing.T) {
			s := serve(t, func(c *conductorsim.Config) { c.Dialect = dialect })
			one, two := s.dial(t), s.dial(t)
			two.ok(edit(tenant()))
			one.refused(lockCandidate, want.dirty)
			two.ok(commit)
			one.ok(lockCandidate)
			one.refused(lockCandidate, want.again)
			if e := two.refused(commit, "in-use"); e.Session != want.inUse {
				t.Errorf("holder %q, want %q", e.Session, want.inUse)
			}
			if e := one.refused(edit(tenant("-192.0.2.1/32")), "data-missing"); e.Path != want.missing {
				t.Errorf("path %q, want %q", e.Path, want.missing)
			}
		})
	}
}

func TestRefusesAnAddressWithoutALength(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	r := c.do(edit(tenant("192.0.2.1", "192.0.2.2/32", "2001:db8::1", "192.0.2.3/33", "host.example")))
	if len(r.Errors) != 4 {
		t.Fatalf("%d errors, want 4: %+v", len(r.Errors), r.Errors)
	}
	e := r.Errors[0]
	if e.Tag != "invalid-value" || e.Bad != "address" || !strings.Contains(e.Message, `"192.0.2.1" is not a valid value`) ||
		!strings.HasSuffix(e.Path, "authy:member[authy:neighborhood='internet']/authy:address") {
		t.Errorf("got %+v", e)
	}
	if r := c.ok(getCandidate); strings.Contains(r.text, "192.0.2.2/32") {
		t.Errorf("half of a refused edit was done: %s", r.text)
	}
}

func TestTenantNamesFollowTheModel(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	for name, good := range map[string]bool{"black": true, "a": true, "black-fail2ban_1": true, "child.parent": true,
		"_internal_": true, "-x": false, "x-": false, "x y": false, "a..b": false, strings.Repeat("a", 64): false} {
		op := edit(`<authy:tenant><authy:name>` + name + `</authy:name></authy:tenant>`)
		if good {
			c.ok(op)
		} else {
			c.refused(op, "invalid-value")
		}
	}
}

// TestEditOperations goes through RFC 6241 §7.2, each case from one address, 192.0.2.1/32.
func TestEditOperations(t *testing.T) {
	member := func(op, inside string) string {
		return `<authy:tenant><authy:name>black</authy:name><authy:member` + op + `><authy:neighborhood>internet</authy:neighborhood>` +
			inside + `</authy:member></authy:tenant>`
	}
	address := func(op, a string) string { return `<authy:address nc:operation="` + op + `">` + a + `</authy:address>` }
	const none = `<default-operation>none</default-operation>`
	const replace = `<default-operation>replace</default-operation>`
	for _, c := range []struct {
		name, inside, options, tag string
		want                       []string // addresses after
	}{
		{"merge", tenant("192.0.2.2/32"), "", "", []string{"192.0.2.1/32", "192.0.2.2/32"}},
		{"merge again", tenant("192.0.2.1/32"), "", "", []string{"192.0.2.1/32"}},
		{"create", member("", address("create", "192.0.2.2/32")), "", "", []string{"192.0.2.1/32", "192.0.2.2/32"}},
		{"create what is there", member("", address("create", "192.0.2.1/32")), "", "data-exists", []string{"192.0.2.1/32"}},
		{"delete", member("", address("delete", "192.0.2.1/32")), "", "", nil},
		{"delete what is not there", member("", address("delete", "192.0.2.9/32")), "", "data-missing", []string{"192.0.2.1/32"}},
		{"remove", member("", address("remove", "192.0.2.1/32")), "", "", nil},
		{"remove what is not there", member("", address("remove", "192.0.2.9/32")), "", "", []string{"192.0.2.1/32"}},
		{"replace a member", member(` nc:operation="replace"`, `<authy:address>192.0.2.5/32</authy:address>`), "", "", []string{"192.0.2.5/32"}},
		{"delete a member", member(` nc:operation="delete"`, ""), "", "", nil},
		{"create a member that is there", member(` nc:operation="create"`, ""), "", "data-exists", []string{"192.0.2.1/32"}},
		{"none with an operation inside", member("", address("create", "192.0.2.2/32")), none, "", []string{"192.0.2.1/32", "192.0.2.2/32"}},
		{"none changes nothing", member("", ""), none, "", []string{"192.0.2.1/32"}},
		{"none of what is not there", member("", `<authy:address>192.0.2.2/32</authy:address>`), none, "data-missing", []string{"192.0.2.1/32"}},
		{"default replace", tenant("192.0.2.8/32"), replace, "", []string{"192.0.2.8/32"}},
		{"merge and delete in one", member("", `<authy:address>192.0.2.2/32</authy:address>`+address("delete", "192.0.2.1/32")), "", "", []string{"192.0.2.2/32"}},
		{"unknown operation", member("", address("append", "192.0.2.1/32")), "", "bad-attribute", []string{"192.0.2.1/32"}},
		{"operation without its namespace", member(` operation="delete"`, ""), "", "unknown-attribute", []string{"192.0.2.1/32"}},
		{"no key", `<authy:tenant><authy:description>x</authy:description></authy:tenant>`, "", "missing-element", []string{"192.0.2.1/32"}},
		{"delete of a key", `<authy:tenant><authy:name nc:operation="delete">black</authy:name></authy:tenant>`, "", "bad-attribute", []string{"192.0.2.1/32"}},
		{"wrong namespace", `<svc:tenant><svc:name>black</svc:name></svc:tenant>`, "", "unknown-namespace", []string{"192.0.2.1/32"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t)
			x := s.dial(t)
			x.ok(edit(tenant("192.0.2.1/32")))
			x.ok(commit)
			if c.tag == "" {
				x.ok(edit(c.inside, c.options))
			} else {
				x.refused(edit(c.inside, c.options), c.tag)
			}
			x.ok(commit)
			if got := s.Addresses("black", "internet"); !slices.Equal(got, c.want) {
				t.Errorf("addresses %q, want %q", got, c.want)
			}
		})
	}
}

func TestLastAddressLeavesAnEmptyMember(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	c.ok(commit)
	c.ok(edit(tenant("-192.0.2.1/32")))
	c.ok(commit)
	if s.Running().Child("config", "").Child("authority", "").Child("tenant", "black").Child("member", "internet") == nil {
		t.Error("the member went with its last address")
	}
}

func TestKeepsWhatItHasNoModelOf(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(`<x:thing xmlns:x="urn:x"><x:name>a</x:name><x:deep><x:leaf>1</x:leaf></x:deep></x:thing>` +
		`<x:thing xmlns:x="urn:x"><x:name>b</x:name></x:thing>`))
	c.ok(edit(`<x:thing xmlns:x="urn:x"><x:name>a</x:name><x:deep><x:leaf>2</x:leaf></x:deep></x:thing>`))
	c.ok(commit)
	authority := s.Running().Child("config", "").Child("authority", "")
	if got := authority.Child("thing", "a").Child("deep", "").Text("leaf"); got != "2" {
		t.Errorf("leaf is %q, want 2", got)
	}
	if authority.Child("thing", "b") == nil {
		t.Error("the second entry of the list is lost")
	}
}

func TestValidationWantsTheTenantOfAPolicy(t *testing.T) {
	policy := func(source string) string {
		return `<svc:service><svc:name>web</svc:name><svc:access-policy><svc:source>` + source +
			`</svc:source><svc:permission>deny</svc:permission></svc:access-policy></svc:service>`
	}
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(policy("black")))
	if e := c.refused(validate, "operation-failed"); !strings.Contains(e.Message, `no tenant "black"`) {
		t.Errorf("message %q", e.Message)
	}
	c.refused(commit, "operation-failed")
	c.refused(edit(tenant("192.0.2.1/32")+policy("other"), `<test-option>test-then-set</test-option>`), "operation-failed")
	c.ok(edit(tenant("192.0.2.1/32"), `<test-option>test-then-set</test-option>`))
	c.ok(validate)
	c.ok(edit(policy("10.0.0.0/8")+policy("black@10.0.0.0/8"), `<test-option>set</test-option>`))
	c.ok(commit)
	c.ok(`<validate><source><config>` + config(tenant("192.0.2.1/32")) + `</config></source></validate>`)
	c.refused(`<validate><source><config>`+config(policy("nobody"))+`</config></source></validate>`, "operation-failed")
}

func TestSubtreeFilters(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(`<authy:tenant><authy:name>black</authy:name><authy:description>bad ones</authy:description>` +
		`<authy:member><authy:neighborhood>internet</authy:neighborhood><authy:address>192.0.2.1/32</authy:address><authy:address>192.0.2.2/32</authy:address></authy:member>` +
		`<authy:member><authy:neighborhood>lab</authy:neighborhood><authy:address>192.0.2.3/32</authy:address></authy:member></authy:tenant>` +
		`<authy:tenant><authy:name>white</authy:name></authy:tenant>` +
		`<svc:service><svc:name>web</svc:name><svc:scope>public</svc:scope></svc:service>`))
	c.ok(commit)
	tenants := func(inside string) string {
		return `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` + inside + `</authority></config>`
	}
	for _, f := range []struct {
		name, filter string
		want, not    []string
	}{
		{"empty", ``, nil, []string{"config"}},
		{"all", `<config xmlns="http://128technology.com/t128"/>`, []string{"black", "white", "web"}, nil},
		{"one tenant", tenants(`<tenant><name>black</name></tenant>`), []string{"bad ones", "192.0.2.1/32", "192.0.2.3/32"}, []string{"white", "web"}},
		{"one member", tenants(`<tenant><name>black</name><member><neighborhood>lab</neighborhood></member></tenant>`), []string{"black", "lab", "192.0.2.3/32"}, []string{"192.0.2.1/32", "bad ones"}},
		{"names only", tenants(`<tenant><name/></tenant>`), []string{"black", "white"}, []string{"bad ones", "member", "web"}},
		{"leaf with its key", tenants(`<tenant><description/></tenant>`), []string{"black", "bad ones"}, []string{"white", "192.0.2.1"}},
		{"single address is the whole member", tenants(`<tenant><member><address>192.0.2.1/32</address></member></tenant>`), []string{"192.0.2.1/32", "192.0.2.2/32", "internet"}, []string{"lab"}},
		{"address that is not there", tenants(`<tenant><member><address>192.0.2.9/32</address></member></tenant>`), nil, []string{"tenant"}},
		{"two of a kind", tenants(`<tenant><name>black</name><description/></tenant><tenant><name>white</name></tenant>`), []string{"bad ones", "white"}, []string{"192.0.2.1"}},
		{"any namespace", `<config xmlns=""><authority><service/></authority></config>`, []string{"web"}, []string{"black"}},
		{"another namespace", `<config xmlns="urn:other"/>`, nil, []string{"config"}},
		{"attribute", `<config xmlns="http://128technology.com/t128" a="1"/>`, nil, []string{"config"}},
		{"another service namespace", tenants(`<service/>`), nil, []string{"web"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			r := c.ok(`<get-config><source><running/></source><filter type="subtree">` + f.filter + `</filter></get-config>`)
			for _, w := range f.want {
				if !strings.Contains(r.Data.XML, w) {
					t.Errorf("%q is missing in %s", w, r.Data.XML)
				}
			}
			for _, w := range f.not {
				if strings.Contains(r.Data.XML, w) {
					t.Errorf("%q should not be in %s", w, r.Data.XML)
				}
			}
		})
	}
	c.refused(`<get-config><source><running/></source><filter type="xpath" select="/"/></get-config>`, "bad-attribute")
}

func TestOffersOnlyItsFeatures(t *testing.T) {
	for name, c := range map[string]struct {
		off     func(*conductorsim.Features)
		silent  string // capability that the hello lacks
		refused []string
	}{
		"lock":     {func(f *conductorsim.Features) { f.Lock = false }, "", []string{lockCandidate, lockRunning, unlockCandidate}},
		"validate": {func(f *conductorsim.Features) { f.Validate = false }, ":validate:", []string{validate}},
		"discard":  {func(f *conductorsim.Features) { f.Discard = false }, "", []string{discard}},
		"candidate": {func(f *conductorsim.Features) { f.Candidate, f.WritableRunning = false, true }, ":candidate:",
			[]string{lockCandidate, commit, discard, getCandidate, edit(tenant())}},
		"writable-running": {func(*conductorsim.Features) {}, ":writable-running:",
			[]string{strings.Replace(edit(tenant()), "candidate", "running", 1)}},
		"cancel": {func(*conductorsim.Features) {}, ":confirmed-commit:", []string{`<cancel-commit/>`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(cfg *conductorsim.Config) { c.off(&cfg.Features) })
			x := s.dial(t)
			if c.silent != "" && strings.Contains(x.hello, c.silent) {
				t.Errorf("hello announces %s", c.silent)
			}
			for _, op := range c.refused {
				x.refused(op, "operation-not-supported")
			}
			x.ok(getRunning)
		})
	}
}

func TestVendorLeafIsUnknownWhereNotOffered(t *testing.T) {
	s := serve(t, func(c *conductorsim.Config) { c.Features.ValidationType = false })
	e := s.dial(t).refused(`<commit><validation-type xmlns="urn:128technology:netconf:validate-type:1.0">local</validation-type></commit>`, "unknown-element")
	if e.Bad != "validation-type" {
		t.Errorf("bad element %q", e.Bad)
	}
}

func TestWritableRunningChangesAtOnce(t *testing.T) {
	s := serve(t, func(c *conductorsim.Config) { c.Features.Candidate, c.Features.WritableRunning = false, true })
	one, two := s.dial(t), s.dial(t)
	op := strings.Replace(edit(tenant("192.0.2.1/32")), "candidate", "running", 1)
	one.ok(lockRunning)
	two.refused(op, "in-use")
	one.ok(op)
	if got := s.Addresses("black", "internet"); !slices.Equal(got, []string{"192.0.2.1/32"}) {
		t.Errorf("addresses %q", got)
	}
	if n := s.History().Commits(); n != 1 {
		t.Errorf("%d running configurations in the history, want 1", n)
	}
}

func TestConfirmedCommitGoesBackWithItsSession(t *testing.T) {
	s := serve(t, func(c *conductorsim.Config) { c.Features.ConfirmedCommit = true })
	one, two := s.dial(t), s.dial(t)
	one.ok(edit(tenant("192.0.2.1/32")))
	one.ok(`<commit><confirmed/><confirm-timeout>600</confirm-timeout></commit>`)
	if got := s.Addresses("black", "internet"); len(got) != 1 {
		t.Fatalf("addresses %q, want one", got)
	}
	one.ok(`<cancel-commit/>`)
	if got := s.Addresses("black", "internet"); len(got) != 0 {
		t.Fatalf("addresses %q after cancel-commit, want none", got)
	}
	two.ok(edit(tenant("192.0.2.2/32")))
	two.ok(`<commit><confirmed/></commit>`)
	two.ok(commit)
	two.ok(closeSession)
	if got := s.Addresses("black", "internet"); !slices.Equal(got, []string{"192.0.2.2/32"}) {
		t.Errorf("addresses %q, want the confirmed one", got)
	}
	one.ok(edit(tenant("192.0.2.3/32")))
	one.ok(`<commit><confirmed/></commit>`)
	one.ok(closeSession)
	if got := s.Addresses("black", "internet"); !slices.Equal(got, []string{"192.0.2.2/32"}) {
		t.Errorf("addresses %q, want what was before the commit that nobody confirmed", got)
	}
}

func TestKillSessionReleasesTheLockBeforeItsAnswer(t *testing.T) {
	s := serve(t)
	one, two := s.dial(t), s.dial(t)
	one.ok(lockCandidate)
	two.refused(`<kill-session><session-id>4000</session-id></kill-session>`, "invalid-value")
	two.refused(fmt.Sprintf(`<kill-session><session-id>%d</session-id></kill-session>`, two.Session), "invalid-value")
	two.ok(fmt.Sprintf(`<kill-session><session-id>%d</session-id></kill-session>`, one.Session))
	two.ok(lockCandidate)
	within(t, "end of the killed session", func() {
		if msg, err := one.receive(); err == nil {
			t.Errorf("the killed session got %s", msg)
		}
	})
}

func TestCopiesConfigurationsToTheCandidate(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	c.ok(`<copy-config><target><candidate/></target><source><running/></source></copy-config>`)
	c.ok(lockCandidate) // clean again
	c.ok(`<copy-config><target><candidate/></target><source><config>` + config(tenant("192.0.2.2/32")) + `</config></source></copy-config>`)
	c.ok(commit)
	if got := s.Addresses("black", "internet"); !slices.Equal(got, []string{"192.0.2.2/32"}) {
		t.Errorf("addresses %q", got)
	}
	c.refused(`<copy-config><target><running/></target><source><candidate/></source></copy-config>`, "operation-not-supported")
}

func TestStorageKeepsOrNormalizesSpellings(t *testing.T) {
	given := []string{"2001:DB8:0::1/128", "192.0.2.200/24", "192.0.2.1/24", "2001:db8::1/128"}
	for storage, want := range map[conductorsim.Storage][]string{
		conductorsim.AsGiven:   given,
		conductorsim.Canonical: {"192.0.2.0/24", "2001:db8::1/128"},
	} {
		s := serve(t, func(c *conductorsim.Config) { c.Storage = storage })
		c := s.dial(t)
		c.ok(edit(tenant(given...)))
		c.ok(commit)
		if got := s.Addresses("black", "internet"); !slices.Equal(got, want) {
			t.Errorf("%s: addresses %q, want %q", storage, got, want)
		}
	}
}

func TestMalformedRequestsAreRefusedAndTheSessionGoesOn(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	for _, msg := range []string{
		`<rpc`, `<rpc xmlns="` + baseNS + `" message-id="1"><get/></rpc><rpc/>`,
		`<!DOCTYPE x [<!ENTITY a "b">]><rpc xmlns="` + baseNS + `" message-id="1"><get/></rpc>`,
		`<rpc xmlns="` + baseNS + `" message-id="1"><nc:get/></rpc>`,
		`<rpc xmlns="` + baseNS + `"><get/></rpc>`,
		`<rpc xmlns="` + baseNS + `" message-id="1"/>`,
		`<rpc xmlns="` + baseNS + `" message-id="1">` + strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100) + `</rpc>`,
		`<other/>`,
	} {
		c.send(c.frame(msg))
		answer, err := c.receive()
		if err != nil {
			t.Fatalf("%s: %v", msg, err)
		}
		if !strings.Contains(answer, "<error-type>rpc</error-type>") {
			t.Errorf("%s: answered %s", msg, answer)
		}
	}
	c.ok(getRunning)
	c.refused(`<reboot/>`, "operation-not-supported")
	c.refused(`<reboot xmlns="urn:x"/>`, "operation-not-supported")
	c.refused(`<get-config/>`, "missing-element")
	c.refused(`<get-config><source><startup/></source></get-config>`, "operation-not-supported")
	c.refused(`<edit-config><target><candidate/></target></edit-config>`, "missing-element")
	c.refused(edit(tenant(), `<default-operation>delete</default-operation>`), "invalid-value")
}

func TestReplyCarriesTheAttributesOfTheRequest(t *testing.T) {
	c := serve(t).dial(t)
	c.send(c.frame(`<nc:rpc xmlns:nc="` + baseNS + `" xmlns:ex="urn:ex" message-id="a&lt;1" ex:user="me"><nc:get-config><nc:source><nc:running/></nc:source></nc:get-config></nc:rpc>`))
	answer, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`message-id="a&lt;1"`, `xmlns:ex="urn:ex"`, `ex:user="me"`} {
		if !strings.Contains(answer, want) {
			t.Errorf("%s is missing in %s", want, answer)
		}
	}
}

func TestBrokenFramingEndsTheSession(t *testing.T) {
	s := serve(t, func(c *conductorsim.Config) { c.MaxMessage = 4096 })
	for _, garbage := range []string{"\n#0\n", "\n#01\nx\n##\n", "<rpc/>]]>]]>", "\n#99999999999\n", "\n#5000\n", "\n##\n", "\n#-1\n",
		"\n#4000\n" + strings.Repeat(" ", 4000) + "\n#4000\n" + strings.Repeat(" ", 4000)} {
		c := s.dial(t)
		c.ok(lockCandidate)
		c.send(garbage)
		within(t, "end of the session", func() {
			if msg, err := c.receive(); err == nil {
				t.Errorf("%.20q is answered: %s", garbage, msg)
			}
		})
		next := s.dial(t)
		next.ok(lockCandidate)
		next.ok(closeSession)
	}
}

func TestRefusesHellosThatItCannotWorkWith(t *testing.T) {
	s := serve(t)
	for _, text := range []string{
		"garbage]]>]]>",
		hello("urn:other"),
		hello(),
		`<hello xmlns="` + baseNS + `"><capabilities><capability>` + base11 + `</capability></capabilities><session-id>4</session-id></hello>]]>]]>`,
		`<rpc xmlns="` + baseNS + `" message-id="1"><get/></rpc>]]>]]>`,
	} {
		c, err := open(t, s.Sim, s.addr, "admin")
		if err != nil {
			t.Fatal(err)
		}
		c.send(text)
		if _, err := c.receive(); err != nil {
			t.Fatalf("no hello: %v", err)
		}
		within(t, "end of the session", func() {
			if msg, err := c.receive(); err == nil {
				t.Errorf("%s is answered: %s", text, msg)
			}
		})
	}
}

func TestLogsInOnlyKnownUsersWithAuthorizedKeys(t *testing.T) {
	s := serve(t)
	if _, err := open(t, s.Sim, s.addr, "root"); err == nil {
		t.Error("user root was let in")
	}
	other, err := conductorsim.New(conductorsim.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := open(t, other, s.addr, "admin"); err == nil {
		t.Error("another key was let in")
	}
	if err := s.Inject(conductorsim.Fault{Kind: conductorsim.FaultLoginRefused, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, s.Sim, s.addr, "admin"); err == nil {
		t.Error("a login was accepted that was to be refused")
	}
	s.dial(t).ok(getRunning)
	n := 0
	for _, e := range s.History().Events() {
		if e.Kind == "login" {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d refused logins in the history, want 3", n)
	}
}

func TestShowsTheTenantAsTheDeviceDoes(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(`<authy:tenant><authy:description>Blacklist maintained by fail2ban</authy:description><authy:name>black</authy:name>` +
		`<authy:member><authy:neighborhood>internet</authy:neighborhood><authy:address>203.0.113.7/32</authy:address></authy:member></authy:tenant>`))
	c.ok(commit)
	want := `config

    authority

        tenant  black
            name         black
            description  "Blacklist maintained by fail2ban"

            member  internet
                neighborhood  internet
                address       203.0.113.7/32
            exit
        exit
    exit
exit
`
	got, ok := s.ShowTenant("black")
	if !ok || got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, ok := s.ShowTenant("white"); ok {
		t.Error("a tenant is shown that does not exist")
	}
}
