package config

import (
	"errors"
	"fmt"
	"strings"
)

// fieldError says which key of a configuration is wrong, and why. Load
// adds the file and the line.
type fieldError struct {
	Key    string // dotted, as in commit.window
	Reason string // includes the value where there is one
}

func (e *fieldError) Error() string { return e.Key + ": " + e.Reason }

func field(key, format string, args ...any) error {
	return &fieldError{Key: key, Reason: fmt.Sprintf(format, args...)}
}

// faults are several things that are wrong with a configuration, in one line; each
// is a *fieldError, or one that Load has given its place.
type faults []error

// maxFaults is how many are told: a file that is no configuration has thousands.
const maxFaults = 20

// Error shows the first maxFaults on one line, for the log; `config check` prints all, one a line.
func (f faults) Error() string {
	var texts []string
	for _, err := range f[:min(len(f), maxFaults)] {
		texts = append(texts, err.Error())
	}
	if more := len(f) - maxFaults; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the single faults.
func (f faults) Unwrap() []error { return f }

// add takes several at once, so that sections can be nested.
func (f *faults) add(err error) {
	var several faults
	switch {
	case err == nil:
	case errors.As(err, &several):
		*f = append(*f, several...)
	default:
		*f = append(*f, err)
	}
}

// err is the faults as an error: none is nil, a single one itself.
func (f faults) err() error {
	switch len(f) {
	case 0:
		return nil
	case 1:
		return f[0]
	}
	return f
}
