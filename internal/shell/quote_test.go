package shell

import (
	"os/exec"
	"testing"
)

func TestAShellReadsAQuotedWordAsItself(t *testing.T) {
	for _, word := range []string{
		"", "router1", "/var/lib/banmesh", "https://192.0.2.1:443", "web server", "it's", "a;touch pwned", "$(id)", "`id`", "a\"b", `a\b`, "~", "*", "# x", "jäil", "{a,b}", "!!", "-x",
	} {
		got, err := exec.Command("sh", "-c", "printf %s "+Quote(word)).Output()
		if err != nil || string(got) != word {
			t.Errorf("%q is read as %q, %v", word, got, err)
		}
	}
	for _, plain := range []string{"router1.example.org", "/etc/banmesh/keyring.json", "::1"} {
		if got := Quote(plain); got != plain {
			t.Errorf("%s becomes %s", plain, got)
		}
	}
}

func TestAnArgumentIsNoFlag(t *testing.T) {
	for word, want := range map[string]string{"-x": "-- -x", "--all; id": "-- '--all; id'", "router1": "router1", "a b": "'a b'"} {
		if got := Argument(word); got != want {
			t.Errorf("%q becomes %s, want %s", word, got, want)
		}
	}
}
