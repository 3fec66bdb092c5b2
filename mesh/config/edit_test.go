package config

import (
	"os"
	"strings"
	"testing"
)

func TestSettingsAreWrittenAndAllElseStays(t *testing.T) {
	shipped, err := os.ReadFile("../../examples/banmesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	packaged := strings.Replace(string(shipped), "\nname: router1\n", "\n# name: router1\n", 1)
	for name, c := range map[string]struct{ text, want string }{
		"an empty file": {"", "name: server2\ngossip:\n  keyring: /etc/k.json\njoin: [\"192.0.2.1:7946\"]\nenforce:\n  driver: nftables\nquorum:\n  default: 2\nnever_ban: [\"198.51.100.7/32\"]\n"},
		"a short file": {
			"name: x\nenforce: {jail: mesh}\ngossip: {bind: \"192.0.2.2:7946\"} # here\njoin: # nobody\nquorum:\n  # why\n  jails: {}\nnever_ban: []",
			"name: x\nenforce: {driver: nftables, jail: mesh}\ngossip: {keyring: /etc/k.json, bind: \"192.0.2.2:7946\"} # here\njoin: [\"192.0.2.1:7946\"] # nobody\nquorum:\n  default: 2\n  # why\n  jails: {}\nnever_ban: [\"198.51.100.7/32\"]",
		},
		"the packages' own": {packaged, strings.NewReplacer(
			"\n# name: router1\n", "\nname: server2\n", "keyring: /etc/banmesh/keyring.json ", "keyring: /etc/banmesh/keyring.json ", "join: [] ", "join: [\"192.0.2.1:7946\"] ",
			"driver: none                # none, nftables", "driver: nftables                # none, nftables", "quorum: {default: 1,", "quorum: {default: 2,", "never_ban: [] ", "never_ban: [\"198.51.100.7/32\"] ",
		).Replace(packaged)},
	} {
		got, set, kept, err := Edit("x.yaml", []byte(c.text), []Setting{
			{"name", "server2"}, {"gossip.keyring", "/etc/k.json"}, {"join", []string{"192.0.2.1:7946"}}, {"enforce.driver", "nftables"},
			{"quorum.default", float64(2)}, {"never_ban", []string{"198.51.100.7/32"}}, {"log.level", "info"},
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// What is the default already is written where it is not there.
		text := strings.TrimSuffix(strings.Replace(string(got), "log:\n  level: info\n", "", 1), "\n")
		if want := strings.TrimSuffix(c.want, "\n"); text != want {
			t.Errorf("%s became (set %v, kept %v)\n%s\nwant\n%s", name, set, kept, text, want)
		}
		again, set, _, err := Edit("x.yaml", got, []Setting{{"enforce.driver", "nftables"}, {"quorum.default", 2}})
		if err != nil || string(again) != string(got) || len(set) > 0 {
			t.Errorf("%s: a second time: %v, %v", name, set, err)
		}
	}
}

func TestWhatAnOperatorHasSetStays(t *testing.T) {
	const text = "name: mail\nenforce: {driver: fail2ban}\ncommit:\n  conductors:\n    - 192.0.2.9:830\n"
	got, set, kept, err := Edit("x.yaml", []byte(text), []Setting{
		{"name", "server2"}, {"enforce.driver", "nftables"}, {"commit.conductors", []string{"192.0.2.1:830"}},
	})
	if err != nil || string(got) != text || len(set) != 0 || len(kept) != 3 || kept[0].String() != "name: mail" {
		t.Errorf("%s, set %v, kept %v, %v", got, set, kept, err)
	}
}

// The name that the package's installation wrote is nobody's: one that is asked for
// takes its place, and a copy of the machine does not bear it.
func TestANameByThePackageGivesWay(t *testing.T) {
	const text = "# here\nname: debian  # the host's, by the package, for machine 0123456789ab\ndata_dir: /srv\n"
	for _, name := range []string{"server2", "debian"} {
		got, _, kept, err := Edit("x.yaml", []byte(text), []Setting{{"name", name}})
		if want := "# here\nname: " + name + "\ndata_dir: /srv\n"; err != nil || string(got) != want || len(kept) > 0 {
			t.Errorf("%s: %q, kept %v, %v", name, got, kept, err)
		}
	}
	if got, _, _, err := Edit("x.yaml", []byte(text), []Setting{{"log.level", "info"}}); err != nil || !strings.HasPrefix(string(got), text) {
		t.Errorf("another key: %q, %v", got, err)
	}
	host := Default().Name
	for this, want := range map[string]string{"0123456789ab": "debian", "": "debian", "ba9876543210": host} {
		f := &File{Config: Config{Name: "debian"}}
		if f.packagedName([]byte(text), this); f.Name != want || !f.NameByPackage {
			t.Errorf("on machine %q the name is %q (the package's: %v), want %q", this, f.Name, f.NameByPackage, want)
		}
	}
	f := &File{Config: Config{Name: "mail"}}
	if f.packagedName([]byte("name: mail\n"), "ba9876543210"); f.Name != "mail" || f.NameByPackage {
		t.Errorf("a name that was given: %+v", f)
	}
}

func TestAKeyThatIsNotKnownIsNotWritten(t *testing.T) {
	if _, _, _, err := Edit("x.yaml", nil, []Setting{{"limits.of_tomorrow", 1}}); err == nil || !strings.Contains(err.Error(), "limits.of_tomorrow") {
		t.Errorf("%v", err)
	}
	if _, _, _, err := Edit("x.yaml", []byte("join:\n  []\nquorum: 7\n"), []Setting{{"quorum.default", 2}}); err == nil {
		t.Error("what is no configuration was edited")
	}
}
