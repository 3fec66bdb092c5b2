package config

import (
	"strings"
	"testing"
)

func TestQuorumThatNobodyCanMeanIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"quorum: {default: 0}":                    "quorum.default",
		"quorum: {default: -1}":                   "quorum.default",
		"quorum: {jails: {sshd: 0}}":              "quorum.jails.sshd",
		"quorum: {jails: {\"a\\tb\": 2}}":         "quorum.jails",
		"quorum: {default: 2, jails: {sshd: 3}}":  "",
		"quorum: {default: 99999, jails: {x: 1}}": "quorum.default",
	} {
		f, err := load(t, "name: router1\ngossip: {bind: \"127.0.0.1:7946\"}\n"+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		err = f.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), ":3: "+want+":")) {
			t.Errorf("%s: %v, want an error of %q at line 3", text, err, want)
		}
	}
}
