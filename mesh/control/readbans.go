package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// readError says that the list cannot be read, as opposed to an error of the callback.
type readError struct {
	error
	cut bool // it ended too early
}

func (e *readError) Unwrap() error { return e.error }

// readBans reads the array as the agent writes it: a ban per line, each after [ or a comma, and ] on the last line.
func readBans(lines *bufio.Reader, each func(Ban) error) error {
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) { // a prefix with hundreds of records
			var rest []byte
			line = bytes.Clone(line)
			rest, err = lines.ReadBytes('\n')
			line = append(line, rest...)
		}
		if err != nil {
			return &readError{err, true}
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		last := line[len(line)-1] == ']'
		if last {
			line = line[:len(line)-1]
		}
		if len(line) > 0 && (line[0] == '[' || line[0] == ',') {
			line = line[1:]
		}
		if len(line) > 0 {
			var b Ban
			if !b.parse(line) {
				b = Ban{}
				if err := json.Unmarshal(line, &b); err != nil {
					return &readError{err, false}
				}
			}
			if err := each(b); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// ReadBans reads a JSON array of bans, in any form. It calls each only after it has read all of it.
func ReadBans(data []byte, each func(Ban) error) error {
	data = bytes.TrimSpace(data)
	const short = 100 // bytes of a ban
	bans := make([]Ban, 0, min(1+bytes.Count(data, []byte("\n")), len(data)/short))
	lines := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(data), strings.NewReader("\n")), 64<<10)
	err := readBans(lines, func(b Ban) error { bans = append(bans, b); return nil })
	if _, more := lines.Peek(1); err != nil || more == nil {
		// Not in the agent's form of one ban per line.
		bans = nil
		if err := json.Unmarshal(data, &bans); err != nil {
			return err
		}
	}
	for _, b := range bans {
		if err := each(b); err != nil {
			return err
		}
	}
	return nil
}
