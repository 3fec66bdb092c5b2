package page

import (
	"slices"
	"time"
)

// keptWarnings bounds the warnings of the past that are remembered.
const keptWarnings = 100

// past is a warning that the status had: from when to when, as far as it was watched. A number in a text may change
// while the warning is the same one; then the newer text is a warning of its own, and the list stays honest about what
// was shown.
type past struct {
	Text        string
	First, Last time.Time
	Ended       bool
}

// warnings remembers what the status warned of, newest first.
type warnings struct{ all []past }

// heard takes the warnings of one status.
func (ws *warnings) heard(texts []string, now time.Time) {
	for i := range ws.all {
		if w := &ws.all[i]; !w.Ended && !slices.Contains(texts, w.Text) {
			w.Ended = true
		}
	}
	for _, text := range texts {
		i := slices.IndexFunc(ws.all, func(w past) bool { return !w.Ended && w.Text == text })
		if i >= 0 {
			ws.all[i].Last = now
			continue
		}
		ws.all = slices.Insert(ws.all, 0, past{Text: text, First: now, Last: now})
	}
	if len(ws.all) > keptWarnings {
		ws.all = ws.all[:keptWarnings]
	}
}
