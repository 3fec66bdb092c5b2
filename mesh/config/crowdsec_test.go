package config

import (
	"strings"
	"testing"
)

func TestCrowdSecThatNobodyCanMeanIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"crowdsec: {url: ftp://192.0.2.1, key_file: k}":                     "crowdsec.url",
		"crowdsec: {url: 192.0.2.1:8080, key_file: k}":                      "crowdsec.url",
		"crowdsec: {url: http://192.0.2.1:8080}":                            "crowdsec.key_file",
		"crowdsec: {url: http://192.0.2.1:8080, key_file: k, interval: 0s}": "crowdsec.interval",
		"crowdsec: {jail: \"\"}":                                            "crowdsec.jail",
	} {
		f, err := load(t, "name: router1\ngossip: {bind: \"127.0.0.1:7946\"}\n"+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), ":3: "+want+":") {
			t.Errorf("%s: %v, want an error of %s", text, err, want)
		}
	}
}
