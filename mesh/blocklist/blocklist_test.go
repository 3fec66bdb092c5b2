package blocklist_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/blocklist"
	"banmesh/mesh/control"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func read(t *testing.T, text string, skip bool) (*blocklist.List, error) {
	t.Helper()
	return blocklist.Read(strings.NewReader(text), blocklist.Options{Name: "list", Skip: skip, Now: now})
}

// words shows entries briefly: prefix, and what the list says of it.
func words(entries []blocklist.Entry) []string {
	var out []string
	for _, e := range entries {
		s := control.Format(e.Prefix)
		if e.Jail != "" {
			s += " jail=" + e.Jail
		}
		if e.Start != 0 {
			s += " start=" + e.Start.Time().Format("15:04:05")
		}
		switch e.Until {
		case 0:
		case control.Never:
			s += " until=never"
		default:
			s += " until=" + e.Until.Time().Format("15:04:05")
		}
		if e.Failures != 0 {
			s += fmt.Sprintf(" failures=%d", e.Failures)
		}
		if e.Reason != "" {
			s += " " + e.Reason
		}
		out = append(out, s)
	}
	return out
}

func TestForms(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
		passive    int
	}{
		{"plain", "# a list\r\n; of two\r\n\r\n203.0.113.7\r\n2001:db8::/48 ; SBL1\r\n203.0.113.8#near\r\n", []string{"203.0.113.7", "2001:db8::/48", "203.0.113.8"}, 0},
		{"byte order mark", "\ufeff203.0.113.7\n", []string{"203.0.113.7"}, 0},
		{"byte order mark and comment", "\ufeff# list\n203.0.113.7\n", []string{"203.0.113.7"}, 0},
		{"counts and words after it", "203.0.113.7\t10\n203.0.113.8 2026-01-02 12:00:01 ssh brute force\n203.0.113.9,\n", []string{"203.0.113.7", "203.0.113.8", "203.0.113.9"}, 0},
		{"ranges", "203.0.113.0-203.0.113.255\n192.0.2.40 - 192.0.2.47\n2001:db8::-2001:db8::ff\n", []string{"203.0.113.0/24", "192.0.2.40/29", "2001:db8::/120"}, 0},
		{"a range of several prefixes", "192.0.2.1-192.0.2.4\n", []string{"192.0.2.1", "192.0.2.2/31", "192.0.2.4"}, 0},
		{"ipfilter.dat", "192.0.2.40 - 192.0.2.47 , 000 , text, more\n001.002.003.000 - 001.002.003.255 , 100 , x\n198.51.100.0 - 198.51.100.255 , 200 , friends\n", []string{"192.0.2.40/29", "1.2.3.0/24"}, 1},
		{"netmasks", "203.0.113.0/255.255.255.0\n198.51.100.0 255.255.255.128\n", []string{"203.0.113.0/24", "198.51.100.0/25"}, 0},
		{"DShield", "#\n# primary URL: https://feeds.example/block.txt\nStart\tEnd\tNetblock\tAttacks\tName\tCountry\temail\n192.0.2.0\t192.0.2.255\t24\t1500\tNAME AS\tXX\tabuse@example.net\n198.51.100.0\t198.51.100.255\t24\t2\n", []string{"192.0.2.0/24", "198.51.100.0/24"}, 0},
		{"DShield without its head", "192.0.2.0\t192.0.2.255\t24\t1500\n", []string{"192.0.2.0/24"}, 0},
		{"Spamhaus text", "; Spamhaus DROP List 2026/03/01 - (c) 2026\n203.0.113.0/24 ; SBL1\n", []string{"203.0.113.0/24"}, 0},
		{"Spamhaus NDJSON", "{\"cidr\":\"203.0.113.0/24\",\"sblid\":\"SBL1\",\"rir\":\"ripencc\"}\n{\"cidr\":\"2001:db8::/32\",\"sblid\":\"SBL2\",\"rir\":\"arin\"}\n{\"type\":\"metadata\",\"timestamp\":1711718411,\"size\":79165,\"records\":2,\"copyright\":\"x\"}\n", []string{"203.0.113.0/24 SBL1", "2001:db8::/32 SBL2"}, 0},
		{"AbuseIPDB", `{"meta":{"generatedAt":"2026-03-01T00:00:00+00:00"},"data":[{"ipAddress":"203.0.113.7","abuseConfidenceScore":100,"lastReportedAt":"2026-03-01T00:00:00+00:00"},{"ipAddress":"2001:db8::1"}]}`, []string{"203.0.113.7 abuse confidence 100", "2001:db8::1"}, 0},
		{"cscli CSV", "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n1,crowdsec,Ip:203.0.113.7,crowdsecurity/ssh-bf,ban,US,64500 Example,6,3h59m30s,false,1\n2,cscli,Range:198.51.100.0/24,manual 'ban',ban,,,1,1h,false,2\n3,crowdsec,Ip:203.0.113.8,x,captcha,,,1,1h,false,3\n4,crowdsec,Ip:203.0.113.9,x,ban,,,1,-5m,false,4\n5,crowdsec,Ip:203.0.113.10,x,ban,,,1,1h,true,5\n6,lists,2001:db8::1,x,ban,,,1,1h,false,5\n",
			[]string{"203.0.113.7 until=15:59:30 crowdsecurity/ssh-bf", "198.51.100.0/24 until=13:00:00 manual 'ban'", "2001:db8::1 until=13:00:00 x"}, 3},
		{"cscli JSON", `[{"id":1,"decisions":[{"duration":"1h0m0.5s","id":2,"origin":"crowdsec","scenario":"crowdsecurity/ssh-bf","scope":"Ip","simulated":false,"type":"ban","value":"203.0.113.7"},{"duration":"-1h","scope":"Ip","type":"ban","value":"203.0.113.8"}],"source":{"ip":"203.0.113.7"}}]`, []string{"203.0.113.7 until=13:00:00 crowdsecurity/ssh-bf"}, 1},
		{"decisions of the local API", `[{"duration":"1h","id":2,"origin":"CAPI","scenario":"x","scope":"Range","type":"ban","value":"203.0.113.0/24"}]`, []string{"203.0.113.0/24 until=13:00:00 x"}, 0},
		{"what cscli decisions import takes", "duration,scope,value\n24h,ip,203.0.113.7\n", []string{"203.0.113.7 until=12:00:00"}, 0},
		{"ipset save", "create bad hash:net family inet hashsize 1024 maxelem 65536 timeout 600 comment\nadd bad 203.0.113.0/24 timeout 300 comment \"one two\"\nadd bad 203.0.113.7 nomatch\nadd bad 198.51.100.0-198.51.100.3\n",
			[]string{"203.0.113.0/30 until=12:05:00 one two", "203.0.113.4/31 until=12:05:00 one two", "203.0.113.6 until=12:05:00 one two", "203.0.113.8/29 until=12:05:00 one two",
				"203.0.113.16/28 until=12:05:00 one two", "203.0.113.32/27 until=12:05:00 one two", "203.0.113.64/26 until=12:05:00 one two", "203.0.113.128/25 until=12:05:00 one two", "198.51.100.0/30"}, 0},
		{"JSON of prefixes", `["203.0.113.7","2001:db8::/48"]`, []string{"203.0.113.7", "2001:db8::/48"}, 0},
		{"own CSV", "prefix,effective,committed,origin,jail,start,until,failures,reason\n203.0.113.7/32,true,false,router1,sshd,2026-03-01T11:00:00.000Z,2026-03-01T13:00:00.000Z,5,\"a, b\"\n203.0.113.8/32,false,false,router1,sshd,2026-03-01T11:00:00.000Z,,0,\n203.0.113.9/32,true,false,router1,web,2026-03-01T11:00:00.000Z,,0,\n",
			[]string{"203.0.113.7 jail=sshd start=11:00:00 until=13:00:00 failures=5 a, b", "203.0.113.9 jail=web start=11:00:00 until=never"}, 1},
		{"own JSON", `[{"prefix":"203.0.113.0/30","effective":true,"except":["203.0.113.1/32"],"until":null,"committed":false,"records":[{"origin":"router1","jail":"sshd","start":"2026-03-01T11:00:00.000Z","until":"2026-03-01T13:00:00.000Z","failures":5,"reason":"r"}]}
,{"prefix":"203.0.113.9/32","effective":false,"reason_not_effective":"allowed","until":null,"committed":false,"records":[]}
]
`, []string{"203.0.113.0 jail=sshd start=11:00:00 until=13:00:00 failures=5 r", "203.0.113.2/31 jail=sshd start=11:00:00 until=13:00:00 failures=5 r"}, 1},
		{"own JSON, indented", "[\n  {\n    \"prefix\": \"203.0.113.7/32\", \"effective\": true, \"until\": null, \"committed\": false,\n    \"records\": [{\"origin\": \"a\", \"jail\": \"sshd\", \"start\": \"2026-03-01T11:00:00Z\", \"until\": null, \"failures\": 0, \"reason\": \"\"}]\n  }\n]", []string{"203.0.113.7 jail=sshd start=11:00:00 until=never"}, 0},
		{"the feed's JSON", "[{\"prefix\":\"203.0.113.7/32\",\"until\":\"2026-03-01T13:00:00.000Z\"}\n]\n", []string{"203.0.113.7 until=13:00:00"}, 0},
		{"empty", "\n", nil, 0},
		{"empty JSON", "[]\n", nil, 0},
	} {
		for _, packed := range []bool{false, true} {
			text := tt.text
			if packed {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				_, _ = z.Write([]byte(text))
				_ = z.Close()
				text = b.String()
			}
			l, err := read(t, text, false)
			if err != nil {
				t.Errorf("%s (packed %v): %v", tt.name, packed, err)
				continue
			}
			if got := words(l.Entries); !slices.Equal(got, tt.want) || l.Passive != tt.passive {
				t.Errorf("%s (packed %v), read as %s:\n got %q, %d passive\nwant %q, %d", tt.name, packed, l.Form, got, l.Passive, tt.want, tt.passive)
			}
		}
	}
}

// An unknown form is refused whole, also where lines may be left out: none of these has an entry that is meant.
func TestUnknownFormsAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"HTML":                     "<html><body>203.0.113.7</body></html>\n",
		"XML":                      "<?xml version=\"1.0\"?><ip>203.0.113.7</ip>",
		"unknown columns":          "ip,score,whitelisted\n203.0.113.7,0,true\n",
		"unknown quoted columns":   "\"ip\",\"first seen\"\n\"203.0.113.7\",\"x\"\n",
		"unknown objects":          `[{"ip":"203.0.113.7","verdict":"good"}]`,
		"an unknown object":        `{"error":"quota exceeded for 203.0.113.7"}`,
		"a stream of decisions":    `{"new":[{"value":"203.0.113.7"}],"deleted":[]}`,
		"JSON cut off":             `[{"prefix":"203.0.113.7/32","effective":true,"until":null,"records":[`,
		"AbuseIPDB cut off":        `{"data":[{"ipAddress":"203.0.113.7"},`,
		"JSON and more":            `["203.0.113.7"] ["203.0.113.8"]`,
		"DROP cut off":             "{\"cidr\":\"203.0.113.0/24\"}\n{\"type\":\"metadata\",\"records\":2}\n",
		"two ipsets":               "create bad hash:ip\ncreate good hash:ip\nadd bad 203.0.113.7\nadd good 203.0.113.8\n",
		"a hole that is unclear":   "add bad 203.0.113.0/24\nadd bad 203.0.113.7/24x nomatch\n",
		"a hole of a service":      "add bad 203.0.113.0/24\nadd bad 203.0.113.7,tcp:80 nomatch\n",
		"a hole for how long":      "add bad 203.0.113.0/24\nadd bad 203.0.113.7 timeout x nomatch\n",
		"ipset restore with flush": "add bad 203.0.113.7\nflush bad now\n",
		"UTF-16":                   "\xff\xfe2\x000\x003\x00",
		"zip":                      "PK\x03\x04xxxx",
		"binary":                   "203.0.113.7\x00\n",
		"gzip cut off":             "\x1f\x8b\x08\x00\x00",
		"own CSV with a torn line": "prefix,effective,committed,origin,jail,start,until,failures,reason\n203.0.113.7/32,true\n",
	} {
		if l, err := read(t, text, true); err == nil {
			t.Errorf("%s: read as %s: %q", name, l.Form, words(l.Entries))
		} else if !strings.HasPrefix(err.Error(), "list:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error does not name the list in one line: %q", name, err)
		}
	}
}

// A line that may mean something else than its first address is refused, with its number.
func TestDoubtfulLinesAreRefused(t *testing.T) {
	for _, line := range []string{
		"203.0.113.7 203.0.113.8", "203.0.113.7,203.0.113.8", "203.0.113.7, 203.0.113.8", "203.0.113.7 to 203.0.113.9",
		"203.0.113.7,ban", "203.0.113.7,0,true", "203.0.113.7 OK", "203.0.113.7 permit", "allow 203.0.113.7", "!203.0.113.7", "-203.0.113.7",
		"203.0.113.0 203.0.113.255 25 x", "203.0.113.0 203.0.113.200 24", "203.0.113.0 0.0.0.255", "203.0.113.0/0.0.0.255", "203.0.113.0/255.0.255.0",
		"203.0.113.9-203.0.113.1", "203.0.113.9-2001:db8::1", "203.0.113.9-", "0.0.0.0-255.255.255.255", "203.0.113.1-203.0.113.2 203.0.113.9",
		"0.0.0.0 ads.example.net", "127.0.0.1 localhost", "::1 localhost", "203.0.113.1/24", "0.0.0.0/0", "203.0.113.010", "300.1.1.1",
		"Access denied for 203.0.113.7", "deadbeef", "203.0.113.7:22", "evil.example.net", "203.0.113.7 (203.0.113.8)", "fe80::1%eth0",
	} {
		text := "203.0.113.200\n" + line + "\n"
		l, err := read(t, text, false)
		if err == nil {
			t.Errorf("%q is read as %q", line, words(l.Entries))
		} else if !strings.HasPrefix(err.Error(), "list:2: ") {
			t.Errorf("%q: the error does not name the line: %v", line, err)
		}
		l, err = read(t, text, true)
		if err != nil || len(l.Entries) != 1 || len(l.Bad) != 1 {
			t.Errorf("%q with skip: %+v, %v", line, l, err)
		}
	}
}

func TestEntriesOfOtherFormsAreRefusedWithTheirPlace(t *testing.T) {
	for name, tt := range map[string]struct{ text, at string }{
		"own CSV, jail":     {"prefix,effective,committed,origin,jail,start,until,failures,reason\n203.0.113.7/32,true,false,a,,2026-03-01T11:00:00.000Z,,0,\n", "list:2: jail"},
		"own CSV, time":     {"# x\nprefix,effective,committed,origin,jail,start,until,failures,reason\n203.0.113.7/32,true,false,a,sshd,yesterday,,0,\n", "list:3: time"},
		"own CSV, truth":    {"prefix,effective,committed,origin,jail,start,until,failures,reason\n203.0.113.7/32,perhaps,false,a,sshd,2026-03-01T11:00:00.000Z,,0,\n", "list:2: effective"},
		"a country":         {`[{"value":"US","scope":"Country","type":"ban","duration":"1h"}]`, "list:entry 1: Country"},
		"in an alert":       {`[{"decisions":[{"value":"64500","scope":"AS","type":"ban","duration":"1h"}]}]`, "list:entry 1: AS"},
		"a duration":        {`[{"value":"203.0.113.7","scope":"Ip","type":"ban","duration":"soon"}]`, "list:entry 1: duration"},
		"AbuseIPDB":         {`{"data":[{"ipAddress":"203.0.113.7"},{"ip":"203.0.113.8"}]}`, "list:entry 2: has no ipAddress"},
		"another type":      {`["203.0.113.7",5]`, "list:entry 2: "},
		"DROP":              {"{\"cidr\":\"203.0.113.0/24\"}\n{\"net\":\"203.0.113.0/24\"}\n", "list:2: "},
		"an ipset of ports": {"create a hash:ip,port\nadd a 203.0.113.7,tcp:22\n", "list:2: "},
	} {
		if l, err := read(t, tt.text, false); err == nil || !strings.HasPrefix(err.Error(), tt.at) {
			t.Errorf("%s: %v, %+v; want %s", name, err, l, tt.at)
		}
		if l, err := read(t, tt.text, true); err != nil || len(l.Bad) != 1 {
			t.Errorf("%s with skip: %+v, %v", name, l, err)
		}
	}
}

func TestReasonsFitABan(t *testing.T) {
	l, err := read(t, `[{"value":"203.0.113.7","scope":"Ip","type":"ban","duration":"1h","scenario":"a\nb`+strings.Repeat("ü", 300)+`"}]`, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := control.CheckText("reason", l.Entries[0].Reason); err != nil || !strings.HasPrefix(l.Entries[0].Reason, "a b") {
		t.Errorf("reason %q: %v", l.Entries[0].Reason, err)
	}
}

func TestLinesReadsNoOtherForm(t *testing.T) {
	if l, err := blocklist.Lines(strings.NewReader(`["203.0.113.7"]`), blocklist.Options{Name: "list", Now: now}); err == nil {
		t.Errorf("read as %+v", l)
	}
	l, err := blocklist.Lines(strings.NewReader("203.0.113.1/24\n203.0.114.0-203.0.114.1\n"), blocklist.Options{Name: "list", Mask: true})
	if got := words(l.Entries); err != nil || !slices.Equal(got, []string{"203.0.113.0/24", "203.0.114.0/31"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzRead: no list makes the reader fail otherwise than with a line, and what it takes is a ban that the agent takes.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"203.0.113.7\n", "a-b\n", "[{\"prefix\":", "add a 203.0.113.0/24 nomatch\n", "id,ip,action,expiration\n1,Ip:1.2.3.4,ban,1h\n", "{\"cidr\":\"203.0.113.0/24\"}"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, skip bool) {
		l, err := blocklist.Read(bytes.NewReader(data), blocklist.Options{Name: "list", Skip: skip, Now: now})
		if err != nil {
			return
		}
		for _, e := range l.Entries {
			if _, err := control.ParsePrefix(e.Prefix.String()); err != nil {
				t.Fatalf("%v: %v", e.Prefix, err)
			}
			if err := control.CheckText("reason", e.Reason); err != nil {
				t.Fatal(err)
			}
			if e.Jail != "" && control.CheckJail(e.Jail) != nil {
				t.Fatal(e.Jail)
			}
		}
	})
}
