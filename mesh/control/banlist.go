package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
)

// MaxEach bounds the bans with attributes of their own in one call.
const MaxEach = 50_000

// OneBan is a ban with attributes of its own, in a call of many. A zero Start means now.
type OneBan struct {
	Prefix   netip.Prefix `json:"prefix"`
	Jail     string       `json:"jail"`
	Start    Time         `json:"start"`
	Until    Until        `json:"until"`
	Failures uint32       `json:"failures"`
	Reason   string       `json:"reason"`
}

// OneBans is a list of bans. It avoids reflection: an import carries a hundred thousand.
type OneBans []OneBan

// MarshalJSON writes an array, never null.
func (bs OneBans) MarshalJSON() ([]byte, error) {
	return bs.appendJSON(make([]byte, 0, 2+150*len(bs))), nil
}

func (bs OneBans) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i := range bs {
		if i > 0 {
			b = append(b, ',')
		}
		b = bs[i].appendJSON(b)
	}
	return append(b, ']')
}

func (o *OneBan) appendJSON(b []byte) []byte {
	b = append(b, `{"prefix":"`...)
	b = o.Prefix.AppendTo(b)
	b = append(b, `","jail":`...)
	b = appendString(b, o.Jail)
	b = append(b, `,"start":`...)
	if o.Start == 0 {
		b = append(b, `null`...)
	} else {
		b = append(b, '"')
		b = appendMillis(b, int64(o.Start))
		b = append(b, '"')
	}
	b = append(b, `,"until":`...)
	b = appendUntil(b, o.Until)
	b = append(b, `,"failures":`...)
	b = strconv.AppendUint(b, uint64(o.Failures), 10)
	b = append(b, `,"reason":`...)
	b = appendString(b, o.Reason)
	return append(b, '}')
}

// UnmarshalJSON reads an array. encoding/json promises that b is one valid JSON value.
func (bs *OneBans) UnmarshalJSON(b []byte) error {
	p := parser{rest: b, ok: true}
	out := p.oneBans()
	if p.ok && len(p.rest) == 0 {
		*bs = out
		return nil
	}
	// Not in appendJSON's form, for example because a string has other than plain ASCII characters. Other programs may write any
	// JSON; they pay for two passes.
	var slow []struct {
		OneBan
		Prefix prefixText `json:"prefix"`
	}
	if err := json.Unmarshal(b, &slow); err != nil {
		return err
	}
	out = make(OneBans, len(slow))
	for i := range slow {
		out[i] = slow[i].OneBan
		out[i].Prefix = netip.Prefix(slow[i].Prefix)
	}
	*bs = out
	return nil
}

// encode is json.Marshal of the call, without checking again what the list has written.
func (c BanCall) encode() ([]byte, error) {
	each := c.Each
	c.Each = nil
	b, err := json.Marshal(c)
	if err != nil || len(each) == 0 {
		return b, err
	}
	const key = `,"each":` // prefixes is always written, so there is a field before it
	out := make([]byte, 0, len(b)+len(key)+2+160*len(each))
	out = append(out, b[:len(b)-1]...)
	out = append(out, key...)
	out = each.appendJSON(out)
	return append(out, '}'), nil
}

// ReadJSON reads what a client writes, without the two passes that json.Unmarshal takes first. For anything else it returns
// false and leaves the call unchanged.
func (c *BanCall) ReadJSON(b []byte) bool {
	const key = `,"each":[`
	at := bytes.Index(b[:min(len(b), maxHead)], []byte(key))
	if at < 0 {
		return false
	}
	head := append(bytes.Clone(b[:at]), '}') // valid JSON only if at is not inside a value
	var call BanCall
	if json.Unmarshal(head, &call) != nil {
		return false
	}
	p := parser{rest: b[at+len(key)-1:], ok: true}
	call.Each = p.oneBans()
	p.skip(`}`)
	if !p.ok || len(p.rest) > 0 {
		return false
	}
	*c = call
	return true
}

// maxHead bounds the part of a call before its list.
const maxHead = 4 << 10

// prefixText is a prefix that ParsePrefix parses.
type prefixText netip.Prefix

// UnmarshalText takes a single address too, as everywhere.
func (t *prefixText) UnmarshalText(b []byte) error {
	p, err := ParsePrefix(string(b))
	*t = prefixText(p)
	return err
}

// oneBans reads what appendJSON writes; anything else clears p.ok, and the caller has encoding/json read it
// again. The count is bounded before memory is taken for it.
func (p *parser) oneBans() (out OneBans) {
	p.skip(`[`)
	if !p.optional(`]`) {
		out = make(OneBans, 0, min(MaxEach, bytes.Count(p.rest, []byte(`{"prefix":`))))
		for more := true; more && p.ok; more = p.optional(`,`) {
			out = append(out, p.oneBan())
		}
		p.skip(`]`)
	}
	return out
}

func (p *parser) oneBan() (o OneBan) {
	p.skip(`{"prefix":`)
	prefix, err := ParsePrefix(p.text())
	p.ok = p.ok && err == nil
	o.Prefix = prefix
	p.skip(`,"jail":`)
	o.Jail = p.name()
	p.skip(`,"start":`)
	if !p.optional(`null`) {
		o.Start = Time(p.millis())
	}
	p.skip(`,"until":`)
	o.Until = p.until()
	p.skip(`,"failures":`)
	n := p.number()
	p.ok = p.ok && n >= 0 && n <= 1<<32-1
	o.Failures = uint32(n)
	p.skip(`,"reason":`)
	o.Reason = p.text()
	p.skip(`}`)
	return o
}

// Bans returns the requested bans, each with its attributes.
func (c BanCall) Bans() OneBans {
	if len(c.Each) > 0 {
		return c.Each
	}
	out := make(OneBans, len(c.Prefixes))
	for i, p := range c.Prefixes {
		out[i] = OneBan{Prefix: p, Jail: c.Jail, Start: c.Start, Until: c.Until, Failures: c.Failures, Reason: c.Reason}
	}
	return out
}

// validate names the ban that is wrong, as one of many thousand.
func (bs OneBans) validate() error {
	if len(bs) > MaxEach {
		return fmt.Errorf("%d bans in one call: at most %d", len(bs), MaxEach)
	}
	for i := range bs {
		o := &bs[i]
		if !o.Prefix.IsValid() {
			return fmt.Errorf("ban %d has no prefix", i+1)
		}
		if err := checkBan(o.Jail, o.Start, o.Until, o.Reason); err != nil {
			return fmt.Errorf("ban of %s: %w", o.Prefix, err)
		}
	}
	return nil
}

// checkBan refuses attributes that no ban can have.
func checkBan(jail string, start Time, until Until, reason string) error {
	if jail != "" {
		if err := CheckJail(jail); err != nil {
			return err
		}
	}
	if until <= 0 {
		return fmt.Errorf("until is missing: want a time, or null for without end")
	}
	if start < 0 {
		return fmt.Errorf("start is before 1970")
	}
	return CheckText("reason", reason)
}
