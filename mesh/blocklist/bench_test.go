package blocklist_test

import (
	"fmt"
	"strings"
	"testing"

	"banmesh/mesh/blocklist"
)

// BenchmarkRead reads lists of 100,000 entries.
func BenchmarkRead(b *testing.B) {
	each := func(head, line, foot string) string {
		var text strings.Builder
		text.WriteString(head)
		for i := range 100_000 {
			comma := ""
			if i > 0 {
				comma = ","
			}
			text.WriteString(strings.NewReplacer("IP", fmt.Sprintf("20.%d.%d.%d", i>>16&255, i>>8&255, i&255), "COMMA", comma).Replace(line))
		}
		return text.String() + foot
	}
	for name, text := range map[string]string{
		"plain":     each("", "IP\n", ""),
		"NDJSON":    each("", `{"cidr":"IP/32","sblid":"SBL1","rir":"ripencc"}`+"\n", ""),
		"AbuseIPDB": each(`{"data":[`, `COMMA{"ipAddress":"IP","countryCode":"XX","abuseConfidenceScore":100,"lastReportedAt":"2026-03-01T00:00:00+00:00"}`, `]}`),
		"cscliCSV":  each("id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n", "1,crowdsec,Ip:IP,crowdsecurity/ssh-bf,ban,US,64500 Example,6,3h59m30s,false,1\n", ""),
		"cscliJSON": each("[", `COMMA{"id":1,"decisions":[{"duration":"1h0m0.5s","id":1,"origin":"crowdsec","scenario":"crowdsecurity/ssh-bf","scope":"Ip","simulated":false,"type":"ban","value":"IP"}]}`, "]"),
		"ipset":     each("create bad hash:ip family inet timeout 0\n", "add bad IP timeout 86000 comment \"x\"\n", ""),
		"ownCSV":    each("prefix,effective,committed,origin,jail,start,until,failures,reason,except\n", "IP/32,true,false,router1,sshd,2026-03-01T11:00:00.000Z,,5,x,\n", ""),
		"ownJSON":   each("[", `COMMA{"prefix":"IP/32","effective":true,"until":null,"committed":false,"records":[{"origin":"router1","jail":"sshd","start":"2026-03-01T11:00:00.000Z","until":null,"failures":5,"reason":"x"}]}`+"\n", "]\n"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := blocklist.Read(strings.NewReader(text), blocklist.Options{Name: "list", Now: now}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
