package control

import (
	"bytes"
	"strconv"
	"time"
)

// parse parses what appendJSON writes, several times as fast as encoding/json. It returns false for any other JSON, with b in
// an undefined state; encoding/json has to parse that.
func (b *Ban) parse(line []byte) bool {
	p := parser{rest: line, ok: true}
	*b = Ban{}
	p.skip(`{"prefix":`)
	b.Prefix = p.text()
	p.skip(`,"effective":`)
	b.Effective = p.boolean()
	if p.optional(`,"reason_not_effective":`) {
		b.ReasonNotEffective = p.text()
	}
	if p.optional(`,"except":[`) {
		// A comma stands only between two of them, so it also says that there is a further one.
		for more := true; more && p.ok; more = p.optional(`,`) {
			except, err := ParsePrefix(p.text())
			p.ok = p.ok && err == nil
			b.Except = append(b.Except, except)
		}
		p.skip(`]`)
	}
	p.skip(`,"until":`)
	b.Until = p.until()
	p.skip(`,"committed":`)
	b.Committed = p.boolean()
	p.skip(`,"records":[`)
	// Most bans have one record. An empty list is not nil, as encoding/json has it.
	b.Records = make([]Record, 0, 1)
	if !p.optional(`]`) {
		for more := true; more && p.ok; more = p.optional(`,`) {
			b.Records = append(b.Records, p.record())
		}
		p.skip(`]`)
	}
	if p.optional(`,"waits_for_quorum":{"jail":`) {
		w := &QuorumWait{Jail: p.text()}
		p.skip(`,"seen":`)
		w.Seen = int(p.number())
		p.skip(`,"needed":`)
		w.Needed = int(p.number())
		p.skip(`}`)
		b.WaitsForQuorum = w
	}
	b.Held = p.optional(`,"held":true`)
	p.skip(`}`)
	return p.ok && len(p.rest) == 0
}

// parser holds the rest of a line. After anything unexpected, ok is false and it parses nothing more.
type parser struct {
	rest []byte
	ok   bool
	// Most bans of a list have the jail and the router of the one before: no allocation for those.
	last string // the last result of name
}

// record reads the fields in the order in which appendJSON writes them, and nothing else.
func (p *parser) record() (r Record) {
	p.skip(`{"origin":`)
	r.Origin = p.text()
	p.skip(`,"jail":`)
	r.Jail = p.text()
	p.skip(`,"start":`)
	if !p.optional(`null`) {
		r.Start = Time(p.millis())
	}
	p.skip(`,"until":`)
	r.Until = p.until()
	p.skip(`,"failures":`)
	n := p.number()
	p.ok = p.ok && n >= 0 && n <= 1<<32-1
	r.Failures = uint32(n)
	p.skip(`,"reason":`)
	r.Reason = p.text()
	p.skip(`}`)
	return r
}

// optional steps over the word if it comes next.
func (p *parser) optional(word string) bool {
	if !p.ok || len(p.rest) < len(word) || string(p.rest[:len(word)]) != word {
		return false
	}
	p.rest = p.rest[len(word):]
	return true
}

func (p *parser) skip(word string) { p.ok = p.optional(word) }

func (p *parser) boolean() bool {
	if p.optional(`true`) {
		return true
	}
	p.skip(`false`)
	return false
}

// text parses a string of plain ASCII without escapes.
func (p *parser) text() string {
	p.skip(`"`)
	end := bytes.IndexByte(p.rest, '"')
	if !p.ok || end < 0 {
		p.ok = false
		return ""
	}
	s := p.rest[:end]
	for _, c := range s {
		if c < ' ' || c > '~' || c == '\\' {
			p.ok = false
			return ""
		}
	}
	p.rest = p.rest[end+1:]
	return string(s)
}

// name parses a string that usually equals the last one.
func (p *parser) name() string {
	if n := len(p.last); p.ok && len(p.rest) > n+1 && p.rest[0] == '"' && p.rest[n+1] == '"' && string(p.rest[1:n+1]) == p.last {
		p.rest = p.rest[n+2:]
		return p.last
	}
	p.last = p.text()
	return p.last
}

func (p *parser) number() int64 {
	end := 0
	for end < len(p.rest) && (p.rest[end] >= '0' && p.rest[end] <= '9' || end == 0 && p.rest[0] == '-') {
		end++
	}
	n, err := strconv.ParseInt(string(p.rest[:end]), 10, 64)
	// Whatever encoding/json refuses must be refused here too, such as 007.
	if !p.ok || err != nil || strconv.FormatInt(n, 10) != string(p.rest[:end]) {
		p.ok = false
		return 0
	}
	p.rest = p.rest[end:]
	return n
}

func (p *parser) until() Until {
	if p.optional(`null`) {
		return Never
	}
	return Until(p.millis())
}

// millis parses "2026-01-01T00:00:00.000Z" and no other form of a time.
func (p *parser) millis() int64 {
	const form = `"0000-00-00T00:00:00.000Z"`
	if !p.ok || len(p.rest) < len(form) {
		p.ok = false
		return 0
	}
	var field [7]int
	at := 0
	for i := range len(form) {
		c := p.rest[i]
		switch {
		case form[i] != '0':
			if c != form[i] {
				p.ok = false
				return 0
			}
			if i > 0 && i < len(form)-2 {
				at++
			}
		case c < '0' || c > '9':
			p.ok = false
			return 0
		default:
			field[at] = field[at]*10 + int(c-'0')
		}
	}
	t := time.Date(field[0], time.Month(field[1]), field[2], field[3], field[4], field[5], field[6]*int(time.Millisecond), time.UTC)
	// time.Date turns a day that the month lacks into another one.
	if y, m, d := t.Date(); y != field[0] || int(m) != field[1] || d != field[2] || field[3] > 23 || field[4] > 59 || field[5] > 59 {
		p.ok = false
		return 0
	}
	p.rest = p.rest[len(form):]
	ms := t.UnixMilli()
	p.ok = ms > 0
	return ms
}
