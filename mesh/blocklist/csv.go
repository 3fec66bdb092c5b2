package blocklist

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
	"banmesh/mesh/control"
)

// isHead reports whether a line names columns: words between commas, without an address. A list of bare
// addresses has no head, and its first line must not be lost as one.
func isHead(line string) bool {
	if !strings.Contains(line, ",") {
		return false
	}
	for _, name := range strings.Split(strings.TrimRight(line, ","), ",") {
		name = strings.Trim(strings.TrimSpace(name), `"`)
		if name == "" || strings.ContainsAny(name, ".:/") || name[0] >= '0' && name[0] <= '9' {
			return false
		}
	}
	return true
}

// row is one line of CSV, addressed by the names of its columns.
type row struct {
	at     map[string]int
	fields []string
}

// get returns "" for a column that the list does not have.
func (r row) get(name string) string {
	// The index is always there: package csv refuses a row with another number of fields than the head has.
	if i, ok := r.at[name]; ok {
		return strings.TrimSpace(r.fields[i])
	}
	return ""
}

// csv reads a list whose head names its columns. It accepts only known heads. above counts the lines before the head.
func (p *reader) csv(data []byte, above int) error {
	rows := csv.NewReader(bytes.NewReader(data))
	// A list may have millions of rows, and each row is read before the next.
	rows.ReuseRecord = true
	head, err := rows.Read()
	if err != nil {
		return err
	}
	r := row{at: make(map[string]int)}
	for i, name := range head {
		r.at[strings.TrimSpace(name)] = i
	}
	read := p.csvForm(r.at)
	if read == nil {
		return fmt.Errorf("columns %s: no known list has these; known are those of banmesh export and of cscli decisions", control.Show(strings.Join(head, ",")))
	}
	for {
		fields, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		// A broken quote swallows the rows after it, so that the list is refused even with Skip.
		var wrong *csv.ParseError
		if errors.As(err, &wrong) {
			return &placed{fmt.Errorf("%s:%d: %w", p.Name, above+wrong.Line, wrong.Err)}
		} else if err != nil {
			return err
		}
		line, _ := rows.FieldPos(0)
		r.fields = fields
		entries, err := read(r)
		switch {
		case errors.Is(err, errPassive):
			p.list.Passive++
		case err != nil:
			if err := p.bad(strconv.Itoa(above+line), err); err != nil {
				return err
			}
		}
		for _, e := range entries {
			// The fields of a row share one string, which a reason would keep alive.
			e.Reason = strings.Clone(e.Reason)
			if err := p.add(e); err != nil {
				return err
			}
		}
	}
}

// csvForm returns the reader for rows with these columns.
func (p *reader) csvForm(at map[string]int) func(row) ([]Entry, error) {
	// Only the columns by which a form is known are asked for, in any order: a later version may add others.
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { _, ok := at[name]; return !ok })
	}
	switch {
	case has("prefix", "effective", "jail", "start", "until"):
		p.form("banmesh's own CSV")
		return p.ownRow
	case has("ip", "action", "expiration"):
		p.form("CSV of cscli decisions list")
		return p.listedRow
	case has("value", "scope", "duration"), has("value", "duration", "reason"):
		p.form("CSV of decisions")
		return p.decisionRow
	}
	return nil
}

// ownRow parses a record of `banmesh export --format csv` or `banmesh list -o csv`.
func (p *reader) ownRow(r row) ([]Entry, error) {
	effective, err := strconv.ParseBool(r.get("effective"))
	if err != nil {
		return nil, fmt.Errorf("effective %s is neither true nor false", control.Show(r.get("effective")))
	}
	// `export --all` writes such bans too. The mesh that they come from does not block them, so this one must
	// not either.
	if !effective {
		return nil, errPassive
	}
	q, err := p.prefix(r.get("prefix"))
	if err != nil {
		return nil, err
	}
	e := Entry{Prefix: q, Jail: uncell(r.get("jail")), Reason: clean(uncell(r.get("reason")))}
	if err := control.CheckJail(e.Jail); err != nil {
		return nil, err
	}
	if text := r.get("start"); text != "" {
		if e.Start, err = control.ParseTime(text); err != nil {
			return nil, err
		}
	}
	// An empty cell is how export writes a ban without end; a word would be refused as a time.
	e.Until = control.Never
	if text := r.get("until"); text != "" {
		at, err := control.ParseTime(text)
		if err != nil {
			return nil, err
		}
		e.Until = control.Until(at)
	}
	if text := r.get("failures"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("failures %s is not a number", control.Show(text))
		}
		e.Failures = uint32(n)
	}
	var except control.Prefixes
	// What was exempt there stays free here: a ban of the whole would block what an operator has allowed.
	for _, text := range strings.Fields(r.get("except")) {
		q, err := control.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		except = append(except, q)
	}
	return excepting(e, except)
}

// excepting removes the exempt parts from a ban.
func excepting(e Entry, except control.Prefixes) ([]Entry, error) {
	if len(except) == 0 {
		return []Entry{e}, nil
	}
	var b netipx.IPSetBuilder
	for _, q := range except {
		b.AddPrefix(q)
	}
	holes, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	return spread(e, ipranges.Of(holes).Outside(e.Prefix)), nil
}

// spread gives each prefix of a range the same jail, times and reason.
func spread(e Entry, over []netip.Prefix) []Entry {
	out := make([]Entry, len(over))
	for i, q := range over {
		out[i] = e
		out[i].Prefix = q
	}
	return out
}

// listedRow parses a line of `cscli decisions list -o raw`.
func (p *reader) listedRow(r row) ([]Entry, error) {
	// The scope stands before the address as in Ip:203.0.113.7; an IPv6 address has colons of its own.
	scope, value, ok := strings.Cut(r.get("ip"), ":")
	if _, err := p.prefix(r.get("ip")); err == nil || !ok { // some versions write no scope
		scope, value = "", r.get("ip")
	}
	return p.decision(decision{
		Scope: scope, Value: value, Type: r.get("action"), Duration: r.get("expiration"), Scenario: r.get("reason"),
		Simulated: r.get("simulated") == "true",
	})
}

// decisionRow parses a line of the CSV for `cscli decisions import`.
func (p *reader) decisionRow(r row) ([]Entry, error) {
	return p.decision(decision{Scope: r.get("scope"), Value: r.get("value"), Type: r.get("type"), Duration: r.get("duration"), Scenario: r.get("reason")})
}
