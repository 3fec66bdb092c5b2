package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
)

func load(t *testing.T, text string) (*File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "banmesh.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func TestConfigReadsEveryKeyOverTheDefaults(t *testing.T) {
	f, err := load(t, `
name: router1
gossip: {bind: "127.0.0.1:7946", profile: wan}
join: ["router2:7946", "[2001:db8::1]:7946"]
bans: {max_duration: 30d}
never_ban: ["10.0.0.0/8", "192.0.2.1"]
commit:
  driver: netconf
  conductors: ["192.0.2.1:830"]
  key: /etc/banmesh/key
  known_hosts: /etc/banmesh/known_hosts
  window: 5
  max_wait: 1m
`)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	if got, want := time.Duration(f.Bans.MaxDuration), 30*24*time.Hour; got != want {
		t.Errorf("bans.max_duration = %v, want %v", got, want)
	}
	if got, want := time.Duration(f.Commit.Window), 5*time.Second; got != want {
		t.Errorf("commit.window = %v, want %v", got, want)
	}
	if got, want := f.NeverBan[1].String(), "192.0.2.1/32"; got != want {
		t.Errorf("never_ban[1] = %s, want %s", got, want)
	}
	if got, want := f.Commit.Tenant, Default().Commit.Tenant; got != want {
		t.Errorf("commit.tenant = %q, want the default %q", got, want)
	}
}

func TestConfigErrorsNameFileLineAndKey(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "name: r\nbogus: 1\n", ":2: bogus: unknown key"},
		{"unknown key in a section", "commit:\n  driver: none\n  colour: red\n", ":3: colour: unknown key"},
		{"duration", "commit:\n  window: soon\n", ":2: commit.window: "},
		{"number", "leader:\n  priority: high\n", ":2: leader.priority: `high` is not a whole number"},
		{"section", "name: r\nleader: 5\n", ":2: leader: `5` is not a section of keys"},
		{"section that is a list", "name: r\ncommit: [1]\n", ":2: commit: a list stands where a section of keys is wanted"},
		{"section that is a longer list", "name: r\ncommit: [1, 2]\n", ":2: commit: a list stands where a section of keys is wanted"},
		{"section that is a block list", "name: r\ncommit:\n  - 1\n", ":3: commit: a list stands where a section of keys is wanted"},
		{"number that is a list", "leader: {priority: [1]}\n", ":1: leader.priority: a list stands where a whole number is wanted"},
		{"text that is a section", "name: {a: b}\n", ":1: name: a section of keys stands where text is wanted"},
		{"item that is a list", "join: [[a]]\n", ":1: join[0]: a list stands where text is wanted"},
		{"list", "name: r\njoin: 5\n", ":2: join: `5` is not a list"},
		{"prefix", "never_ban:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n", ":3: never_ban[1]: "},
		{"name", "name: r 1\n", ":1: name: \"r 1\" has the character ' ': letters, digits, '.', '_' and '-' are allowed"},
		{"name like an option", "name: -x\n", ":1: name: \"-x\" begins with '-'"},
		{"choice", "name: r\ngossip:\n  bind: 127.0.0.1:0\n  profile: fast\n", ":4: gossip.profile: \"fast\" must be one of"},
		{"keyring", "name: r\ngossip:\n  bind: 192.0.2.7:7946\n", ":2: gossip.keyring: "},
		{"join", "gossip: {bind: '127.0.0.1:0'}\njoin:\n  - router2:99999\n", ":3: join[0]: \"router2:99999\" has the port"},
		{"missing key of a driver", "gossip: {bind: '127.0.0.1:0'}\ncommit:\n  driver: netconf\n", ":2: commit.conductors: is empty"},
		{"driver of enforcement", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  driver: iptables\n", ":3: enforce.driver: "},
		{"jail to feed", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  jail: \"a\\tb\"\n", ":3: enforce.jail: \"a\\tb\": holds U+0009"},
		{"no jail to feed", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  jail: ''\n", ":3: enforce.jail: \"\": empty"},
		{"namespace of another driver", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  netns: kni\n", ":3: enforce.netns: \"kni\": only enforce.driver nftables has one"},
		{"interfaces of another driver", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  ingress: [wwan0]\n", ":3: enforce.ingress: only enforce.driver nftables"},
		{"an interface twice", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  driver: nftables\n  ingress: [wwan0, wwan0]\n", ":4: enforce.ingress: \"wwan0\": want names of interfaces"},
		{"namespace by a relative path", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  driver: nftables\n  netns: a/b\n", ":4: enforce.netns: \"a/b\": want a name"},
		{"limit of the feed", "gossip: {bind: '127.0.0.1:0'}\nenforce:\n  limit: 0\n", ":3: enforce.limit: "},
		{"http without port", "gossip: {bind: '127.0.0.1:0'}\nhttp:\n  listen: 127.0.0.1\n", ":3: http.listen: "},
		{"http open to others", "gossip: {bind: '127.0.0.1:0'}\nhttp:\n  listen: '0.0.0.0:7980'\n", ":3: http.listen: "},
		{"http open without a token", "gossip: {bind: '127.0.0.1:0'}\nhttp:\n  listen: '[::]:7980'\n  allow_remote: true\n", ":2: http.token_file: "},
		{"syntax", "name: r\n\tjoin: []\n", ":2: "},
		{"not a mapping", "- a\n", ":1: keys and values"},
		{"twice", "name: r\nname: s\n", ":2: name: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := load(t, c.text)
			if err == nil {
				err = f.Validate()
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, c.want)
			}
			if !strings.Contains(err.Error(), "banmesh.yaml") {
				t.Errorf("error %q does not name the file", err)
			}
		})
	}
}

func TestConfigTellsAllFaultsAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		wants []string
	}{
		"values": {"name: a b\ngossip: {bind: '127.0.0.1:0', profile: fast}\njoin: ['router2:99999', 'router3:0', '[router4]', router5, '::1', '[::1]']\ncommit: {driver: netconf, timeout: 0s}\nlog: {level: loud, format: xml}\n", []string{
			":1: name: ", ":2: gossip.profile: ", ":3: join[0]: ", ":3: join[1]: ", ":3: join[2]: ", ":4: commit.timeout: ", ":4: commit.conductors: ", ":4: commit.key: ", ":5: log.level: ", ":5: log.format: ",
		}},
		"no address at all": {"gossip: {bind: here}\ncommit: {driver: rest}\nhttp: {listen: there}\n", []string{":1: gossip.bind: ", ":2: commit.conductors: ", ":3: http.listen: "}},
		"keys and kinds":    {"nmae: r\ncommit:\n  window: soon\n  tennant: x\nleader: {priority: high}\n", []string{":1: nmae: unknown key: did you mean name?", ":3: commit.window: ", ":4: tennant: unknown key: did you mean tenant?", ":5: leader.priority: "}},
		"a key elsewhere":   {"tenant: x\nlimit: {}\n", []string{":1: tenant: unknown key here: did you mean commit.tenant?", ":2: limit: unknown key: did you mean limits?"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := load(t, test.text)
			if err == nil {
				err = f.Validate()
			}
			var faults faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want %d faults", err, len(test.wants))
			}
			for _, want := range test.wants {
				if !slices.ContainsFunc(faults, func(err error) bool { return strings.Contains(err.Error(), want) }) {
					t.Errorf("none of %q says %q", []error(faults), want)
				}
			}
			if len(faults) != len(test.wants) && name != "values" {
				t.Errorf("%d faults, want %d: %q", len(faults), len(test.wants), []error(faults))
			}
		})
	}
}

// A key with a slip does not hide that the value of another one is wrong.
func TestConfigCheckGoesOnAfterAnUnknownKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banmesh.yaml")
	text := "nmae: r\ngossip: {bind: '127.0.0.1:0', profile: fast}\ncommit: {driver: netconf, timeout: soon}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Check(path)
	if f == nil || f.Gossip.Profile != "fast" {
		t.Errorf("what could be read is %+v", f)
	}
	for _, want := range []string{":1: nmae: unknown key: did you mean name?", ":2: gossip.profile: ", ":3: duration \"soon\": ", ":3: commit.key: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if err := os.WriteFile(path, []byte("gossip: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Check(path); f != nil || err == nil {
		t.Errorf("what is no YAML: %+v, %v", f, err)
	}
}

func TestWhereaboutsAreFoundInAConfigurationThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banmesh.yaml")
	for text, want := range map[string][2]string{
		"":                                    {Default().Socket, "/var/lib/banmesh/spool"},
		"bogus: 1\ndata_dir: /srv/b\n":        {Default().Socket, "/srv/b/spool"},
		"socket: /run/x/s\ncommit: [wrong]\n": {"/run/x/s", "/var/lib/banmesh/spool"},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if socket, spool, err := Whereabouts(path); err != nil || socket != want[0] || spool != want[1] {
			t.Errorf("%q: %s, %s, %v; want %q", text, socket, spool, err, want)
		}
	}
}

func TestConfigRefusesWhatIsNoConfiguration(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("an absent file was accepted")
	}
	if _, err := load(t, strings.Repeat("# page\n", maxSize/6)); err == nil {
		t.Error("a file of more than a megabyte was accepted")
	}
	if _, err := load(t, "name: a\n---\nname: b\n"); err == nil {
		t.Error("two documents were accepted")
	}
}

// What nests or repeats itself without bound is refused at a bounded price.
func TestConfigBombsStaySmall(t *testing.T) {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'k'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, text := range map[string]string{
		"laughs":  laughs,
		"deep":    strings.Repeat("{a: ", 9000) + strings.Repeat("}", 9000),
		"deeper":  strings.Repeat("[", 200_000),
		"itself":  "name: &a [*a]\n",
		"merge":   "a: &a {b: c}\n" + strings.Repeat("<<: *a\n", 1000),
		"numbers": "leader: {priority: " + strings.Repeat("9", 100_000) + "}\n",
		"a name":  strings.Repeat("k", 500_000) + ": 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f := &File{Config: Default(), path: "f"}
			err := f.parse([]byte(text))
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("it was taken")
			}
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 64 {
				t.Errorf("it took %d MB to refuse %d bytes", mb, len(text))
			}
		})
	}
}

func TestAConfigurationThatEverybodyCanChangeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banmesh.yaml")
	if err := os.WriteFile(path, []byte("name: r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o646); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod o-w "+path) {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
}

func TestRootActsOnNobodyElsesConfiguration(t *testing.T) {
	need.Root(t)
	path := filepath.Join(t.TempDir(), "banmesh.yaml")
	if err := os.WriteFile(path, []byte("name: r\nfail2ban: {client: /tmp/own}\ngossip: {insecure: true}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Fatalf("root's own: %v", err)
	}
	if err := os.Chown(path, 4711, -1); err != nil {
		t.Fatal(err)
	}
	_, lerr := Load(path)
	_, _, werr := Whereabouts(path)
	_, rerr := Read(path)
	for what, err := range map[string]error{"Load": lerr, "Whereabouts": werr, "Read": rerr} {
		if err == nil || !strings.Contains(err.Error(), "chown root "+path) {
			t.Errorf("%s says %v, want a refusal that says what to do", what, err)
		}
	}
	if _, err := Check(path); err != nil {
		t.Errorf("a look that nothing follows says %v", err)
	}
}

// TestAPipeInPlaceOfTheConfigurationHoldsNothingUp: a pipe without a writer is answered at once.
func TestAPipeInPlaceOfTheConfigurationHoldsNothingUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banmesh.yaml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("got %v, want a word about the pipe", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("name: r\ncommit: {window: 2s}\n")
	f.Add("never_ban: [a, {b: c}]\n&a: *a\n")
	f.Add("a: &a [x,x]\nb: &b [*a,*a]\nname: *b\n")
	f.Add("a: &a {driver: none}\ncommit: {<<: *a}\n")
	f.Add("commit: {timeout: 1e9}\nhttp: {listen: '[::1%lo]:1'}\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := &File{Config: Default(), path: "f"}
		err := file.parse([]byte(text))
		if err == nil {
			err = file.Validate()
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "f:")) {
			t.Errorf("refused with %q, want one line that begins with the file", err)
		}
	})
}
