package blocklist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"banmesh/mesh/control"
)

// keys returns the fields of a JSON object.
func keys(object json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(object, &m) != nil {
		return nil
	}
	return m
}

// has tells the forms of JSON apart: by the keys that their publishers document.
func has(m map[string]json.RawMessage, names ...string) bool {
	for _, name := range names {
		if _, ok := m[name]; !ok {
			return false
		}
	}
	return true
}

// array reads a JSON array whose elements are all of the kind of the first.
func (p *reader) array(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	if !dec.More() {
		p.form("an empty list")
		return whole(data)
	}
	var first json.RawMessage
	if err := dec.Decode(&first); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	// The order matters: an element of banmesh's own JSON has a prefix and an end as well, and would be taken
	// for one of the feed's, without its records.
	switch m := keys(first); {
	case has(m, "prefix", "records"):
		p.form("banmesh's own JSON")
		return p.bans(data)
	case has(m, "prefix", "until"):
		p.form("the JSON of banmesh's feed")
		return elements(p, data, p.fed)
	case has(m, "decisions"):
		p.form("JSON of cscli decisions list")
		return elements(p, data, p.alert)
	case has(m, "value", "type", "duration"):
		p.form("JSON of decisions")
		return elements(p, data, p.decision)
	case m == nil && first[0] == '"':
		p.form("a JSON array of prefixes")
		return decoded(p, data, func(text string) ([]Entry, error) {
			q, err := p.single(text)
			return []Entry{{Prefix: q}}, err
		})
	}
	return fmt.Errorf("JSON objects like %s: no known list has these", control.Show(string(first)))
}

// object reads text that begins with a JSON object: AbuseIPDB's answer, or one object per line as published by Spamhaus.
func (p *reader) object(data []byte) error {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	// The bound keeps an answer that is one long line from being decoded here only to look at its keys.
	if len(line) <= maxLine && has(keys(line), "cidr") {
		p.form("Spamhaus DROP as NDJSON")
		return p.drop(data)
	}
	var answer struct {
		Data *[]report `json:"data"`
	}
	s, found := scanner{data, true}, []report(nil)
	arrays := 0
	s.object([]string{"data"}, func(int) {
		found = scanArray[report](&s)
		arrays++
	})
	// A second field of that name would be taken by encoding/json in place of the first, so that is left to it.
	if s.end() && arrays == 1 {
		p.form("JSON of AbuseIPDB")
		return each(p, found, p.abuse)
	}
	err := json.Unmarshal(data, &answer)
	var kind *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &kind) {
		return fmt.Errorf("JSON: %w", err)
	}
	if answer.Data == nil {
		return fmt.Errorf("JSON object %s: no known list is one", control.Show(string(data)))
	}
	p.form("JSON of AbuseIPDB")
	if err != nil {
		return decoded(p, keys(data)["data"], p.abuse)
	}
	return each(p, *answer.Data, p.abuse)
}

// whole refuses JSON that is cut off or followed by something else.
func whole(data []byte) error {
	var all json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	return nil
}

// elements reads each element of a JSON array of objects.
func elements[T any, P scanned[T]](p *reader, data []byte, read func(T) ([]Entry, error)) error {
	// All or nothing: what a scan has read until it gave up is dropped, or it would be added twice.
	if all, ok := scanAll[T, P](data); ok {
		return each(p, all, read)
	}
	return decoded(p, data, read)
}

// decoded reads each element of a JSON array with encoding/json.
func decoded[T any](p *reader, data []byte, read func(T) ([]Entry, error)) error {
	var all []T
	err := json.Unmarshal(data, &all)
	var kind *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &kind) {
		return fmt.Errorf("JSON: %w", err)
	}
	if err == nil {
		return each(p, all, read)
	}
	// Some element is of another kind. Decode them one by one to find it.
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	for i, text := range raw {
		var one T
		var found []Entry
		err := json.Unmarshal(text, &one)
		if err == nil {
			found, err = read(one)
		}
		if err := p.take(i+1, found, err); err != nil {
			return err
		}
	}
	return nil
}

// each goes on after a bad element if the caller wants bad ones skipped, see take.
func each[T any](p *reader, all []T, read func(T) ([]Entry, error)) error {
	for i := range all {
		found, err := read(all[i])
		if err := p.take(i+1, found, err); err != nil {
			return err
		}
	}
	return nil
}

// take adds the entries of an element, or records why there are none.
func (p *reader) take(n int, found []Entry, err error) error {
	if err == nil {
		return p.add(found...)
	}
	where := fmt.Sprintf("entry %d", n)
	var several several
	switch {
	// An alert of CrowdSec: what can be used of it is added below all the same.
	case errors.As(err, &several):
		p.list.Passive += several.passive
		for _, why := range several.bad {
			if err := p.bad(where, why); err != nil {
				return err
			}
		}
	case errors.Is(err, errPassive):
		p.list.Passive++
	default:
		return p.bad(where, err)
	}
	return p.add(found...)
}

// several holds the errors of an element with several entries.
type several struct {
	passive int
	bad     []error
}

func (several) Error() string { return "some of it cannot be used" }

// bans reads `banmesh export --format json` and `banmesh list --json`.
func (p *reader) bans(data []byte) error {
	n := 0
	take := func(b control.Ban) error {
		n++
		if !b.Effective {
			return p.take(n, nil, errPassive)
		}
		q, err := p.prefix(b.Prefix)
		// The loop below would otherwise lose the prefix without a word.
		if err == nil && len(b.Records) == 0 {
			err = fmt.Errorf("%s has no records", b.Prefix)
		}
		if err != nil {
			return p.take(n, nil, err)
		}
		// An entry for each of them: they have jails and ends of their own.
		for _, r := range b.Records {
			e := Entry{Prefix: q, Jail: r.Jail, Start: r.Start, Until: r.Until, Failures: r.Failures, Reason: clean(r.Reason)}
			err := control.CheckJail(e.Jail)
			var found []Entry
			if err == nil {
				found, err = excepting(e, b.Except)
			}
			if err := p.take(n, found, err); err != nil {
				return err
			}
		}
		return nil
	}
	if err := control.ReadBans(data, take); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	return nil
}

// feedEntry is an element of /feed/json.
type feedEntry struct {
	Prefix string        `json:"prefix"`
	Until  control.Until `json:"until"`
}

// scan, here and below, reads what encoding/json would; where the two could differ it clears s.ok, and the
// list is read the slow way.
func (f *feedEntry) scan(s *scanner) {
	s.object([]string{"prefix", "until"}, func(i int) {
		if i == 0 {
			f.Prefix = s.text()
			return
		}
		if s.peek() != '"' {
			s.ok = string(s.word()) == "null" && s.ok
			f.Until = control.Never
			return
		}
		at, err := control.ParseTime(s.text())
		s.ok = s.ok && err == nil
		f.Until = control.Until(at)
	})
}

func (p *reader) fed(f feedEntry) ([]Entry, error) {
	q, err := p.prefix(f.Prefix)
	return []Entry{{Prefix: q, Until: f.Until}}, err
}

// decision is one decision of CrowdSec.
type decision struct {
	Scope     string `json:"scope"`
	Value     string `json:"value"`
	Type      string `json:"type"`
	Duration  string `json:"duration"`
	Scenario  string `json:"scenario"`
	Reason    string `json:"reason"`
	Simulated bool   `json:"simulated"`
}

func (d *decision) scan(s *scanner) {
	s.object([]string{"scope", "value", "type", "duration", "scenario", "reason", "simulated"}, func(i int) {
		switch i {
		case 0:
			d.Scope = s.text()
		case 1:
			d.Value = s.text()
		case 2:
			d.Type = s.text()
		case 3:
			d.Duration = s.text()
		case 4:
			d.Scenario = s.text()
		case 5:
			d.Reason = s.text()
		case 6:
			d.Simulated = s.boolean()
		}
	})
}

// decision takes over what blocks an address. What CrowdSec only simulates, answers with a captcha or has let expire is passed over
// (errPassive); a scope such as a country or an AS has no prefix and is an error that names it.
func (p *reader) decision(d decision) ([]Entry, error) {
	// Files for cscli decisions import may leave out scope and type, which then mean Ip and ban; answers of
	// CrowdSec write Ip and Range with a capital.
	switch scope := strings.ToLower(d.Scope); {
	case d.Simulated:
		return nil, errPassive
	case scope != "" && scope != "ip" && scope != "range":
		return nil, fmt.Errorf("%s %s is not an address", d.Scope, control.Show(d.Value))
	case d.Type != "" && d.Type != "ban":
		return nil, errPassive // a captcha is not a ban
	}
	q, err := p.prefix(d.Value)
	if err != nil {
		return nil, err
	}
	e := Entry{Prefix: q, Reason: clean(d.Scenario)}
	if e.Reason == "" {
		e.Reason = clean(d.Reason)
	}
	if d.Duration != "" {
		// In the form of Go's durations, as CrowdSec is written in Go, counted from now. One that is not above zero is
		// over.
		length, err := time.ParseDuration(d.Duration)
		if err != nil {
			return nil, fmt.Errorf("duration %s is none", control.Show(d.Duration))
		}
		var live bool
		if e.Until, live = p.after(length); !live {
			return nil, errPassive
		}
	}
	return []Entry{e}, nil
}

// alert is an element of `cscli decisions list -o json`.
type alert struct {
	Decisions []decision `json:"decisions"`
}

func (a *alert) scan(s *scanner) {
	s.object([]string{"decisions"}, func(int) {
		s.ok = s.ok && a.Decisions == nil // encoding/json would merge a second one into the first
		a.Decisions = scanArray[decision](s)
	})
}

// alert takes what can be taken: one unusable decision of an alert is no reason to lose the others.
func (p *reader) alert(a alert) ([]Entry, error) {
	var out []Entry
	var faults several
	for _, d := range a.Decisions {
		found, err := p.decision(d)
		switch {
		case errors.Is(err, errPassive):
			faults.passive++
		case err != nil:
			faults.bad = append(faults.bad, err)
		}
		out = append(out, found...)
	}
	if faults.passive+len(faults.bad) > 0 {
		return out, faults
	}
	return out, nil
}

// report is an entry of AbuseIPDB's blacklist.
type report struct {
	Address    string `json:"ipAddress"`
	Confidence *int   `json:"abuseConfidenceScore"`
}

func (a *report) scan(s *scanner) {
	s.object([]string{"ipAddress", "abuseConfidenceScore"}, func(i int) {
		if i == 0 {
			a.Address = s.text()
			return
		}
		a.Confidence = s.number()
	})
}

// abuse keeps AbuseIPDB's confidence as the reason. Whether it is enough is for the request that made the
// list to say.
func (p *reader) abuse(a report) ([]Entry, error) {
	if a.Address == "" {
		return nil, errors.New("has no ipAddress")
	}
	q, err := p.single(a.Address)
	e := Entry{Prefix: q}
	if a.Confidence != nil {
		e.Reason = "abuse confidence " + strconv.Itoa(*a.Confidence)
	}
	return []Entry{e}, err
}

// dropped is a line of Spamhaus DROP.
type dropped struct {
	CIDR    string `json:"cidr"`
	SBL     string `json:"sblid"`
	Type    string `json:"type"`
	Records *int   `json:"records"`
}

func (d *dropped) scan(s *scanner) {
	s.object([]string{"cidr", "sblid", "type", "records"}, func(i int) {
		switch i {
		case 0:
			d.CIDR = s.text()
		case 1:
			d.SBL = s.text()
		case 2:
			d.Type = s.text()
		case 3:
			d.Records = s.number()
		}
	})
}

// drop reads one object per line; the last one may hold the number of entries.
func (p *reader) drop(data []byte) error {
	said, n := -1, 0
	for line := 1; len(data) > 0; line++ {
		text, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var d dropped
		var err error
		s := scanner{text, true}
		if d.scan(&s); !s.end() {
			d = dropped{}
			err = json.Unmarshal(text, &d)
		}
		if err == nil && d.Type == "metadata" {
			if d.Records != nil {
				said = *d.Records
			}
			continue
		}
		// Unusable entries count as well: the check at the end is about lines that were lost on the way.
		n++
		var q netip.Prefix
		if err == nil {
			q, err = p.prefix(d.CIDR)
		}
		if err != nil {
			if err := p.bad(strconv.Itoa(line), err); err != nil {
				return err
			}
			continue
		}
		if err := p.add(Entry{Prefix: q, Reason: clean(d.SBL)}); err != nil {
			return err
		}
	}
	// Without this check half a list would let the other half through until the next edition.
	if said >= 0 && said != n {
		return fmt.Errorf("its last line names %d records and it has %d: it was cut, fetch it again", said, n)
	}
	return nil
}
