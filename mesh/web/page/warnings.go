package page

import (
	"slices"
	"time"
)

// keptWarnings bounds the remembered warnings.
const keptWarnings = 100

// past is a warning of the status: from when to when it was seen. If a number in the text changes, the new text counts as
// another warning, so that the list says exactly what was shown.
type past struct {
	Text        string
	First, Last time.Time
	Ended       bool
}

// warnings remembers the status's warnings, newest first.
type warnings struct{ all []past }

// heard records the warnings of one status.
func (ws *warnings) heard(texts []string, now time.Time) {
	for i := range ws.all {
		if w := &ws.all[i]; !w.Ended && !slices.Contains(texts, w.Text) {
			w.Ended = true
		}
	}
	for _, text := range texts {
		// One that ended and comes again is a new entry, with a beginning of its own.
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
