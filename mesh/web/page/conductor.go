package page

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"banmesh/mesh/control"
)

// conductor shows how the commits stand.
type conductor struct {
	control.CommitStatus
	Off     bool
	Pill    pill
	Detail  string // whom it waits for, or why it fails
	Trouble string
	Last    []commitRow
}

type commitRow struct {
	Key    string
	Link   string // to its own page
	At     stamp
	By     string
	Change string
}

// states gives each state of the commits its name and colour.
var states = map[string]pill{
	"idle": {"ok", "Up to date"}, "pending": {"busy", "About to commit"}, "committing": {"busy", "Committing"},
	"waiting": {"warn", "Waiting"}, "failing": {"bad", "Failing"}, "frozen": {"warn", "Frozen"}, "off": {"off", "No conductor"},
}

// newConductor shows a state that it does not know by its own word: the leader may be of a later version.
func newConductor(s *control.Status) conductor {
	c := conductor{CommitStatus: s.Commit, Detail: s.Commit.Detail, Pill: states[s.Commit.State]}
	if c.Pill.Text == "" {
		c.Pill = pill{"off", s.Commit.State}
	}
	c.Off = s.Commit.State == "off"
	if s.Commit.LastError != nil {
		c.Trouble = *s.Commit.LastError
	}
	return c
}

// commitLine says only what is known; a difference of sums is no number of additions.
func commitLine(c *committed, now time.Time) commitRow {
	row := commitRow{At: stampAt(c.At.Time(), now), By: c.By}
	row.Link = "/commit?" + url.Values{"at": {strconv.FormatInt(int64(c.At), 10)}, "by": {c.By}}.Encode()
	switch {
	case c.Exact:
		row.Change = fmt.Sprintf("%s added, %s removed", number(c.Add), number(c.Remove))
	case c.First:
		row.Change = "before the watch began"
	case c.Net > 0:
		row.Change = counted(c.Net, "address", "addresses") + " more"
	case c.Net < 0:
		row.Change = counted(-c.Net, "address", "addresses") + " fewer"
	default:
		row.Change = "as many addresses as before"
	}
	row.Key = fmt.Sprint(int64(c.At), c.By)
	return row
}
