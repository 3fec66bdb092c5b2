package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"banmesh/mesh/control"
)

// version is the version of an entry's format; entries of a newer one are left for a newer agent.
const version = 1

// Entry is one waiting call: exactly one of the three is set. Its times are absolute, fixed when it was made.
type Entry struct {
	Time  time.Time
	Ban   *control.BanCall
	Unban *control.UnbanCall
	Hook  *control.HookCall
}

// form is an Entry as it is stored.
type form struct {
	Version int                `json:"version"`
	Time    control.Time       `json:"time"`
	Ban     *control.BanCall   `json:"ban,omitempty"`
	Unban   *control.UnbanCall `json:"unban,omitempty"`
	Hook    *control.HookCall  `json:"hook,omitempty"`
}

// encode refuses what decode would: what is kept must be readable by the agent that drains it.
func (e Entry) encode() ([]byte, error) {
	f := form{Version: version, Time: control.At(e.Time), Ban: e.Ban, Unban: e.Unban, Hook: e.Hook}
	if err := f.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("the call has %d bytes: at most %d can be kept", len(b), maxSize)
	}
	return append(b, '\n'), nil
}

// decode parses an entry as strictly as input from the socket.
// Anybody who may write to the spool could send the same call by the socket; more is not granted here.
func decode(b []byte) (Entry, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f form
	if err := dec.Decode(&f); err != nil {
		return Entry{}, fmt.Errorf("not an entry: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Entry{}, errors.New("not an entry: more than one value")
	}
	if err := f.check(); err != nil {
		return Entry{}, err
	}
	return Entry{Time: f.Time.Time(), Ban: f.Ban, Unban: f.Unban, Hook: f.Hook}, nil
}

// check wants the times that make a late call mean what it meant when it was made: a ban's start, the moment
// of an unban.
func (f form) check() error {
	if f.Version != version {
		return fmt.Errorf("entry of version %d: this agent knows %d", f.Version, version)
	}
	if f.Time <= 0 {
		return errors.New("entry without its time")
	}
	n := 0
	var err error
	if f.Ban != nil {
		n, err = n+1, f.Ban.Validate()
		if err == nil && f.Ban.Start == 0 {
			err = errors.New("ban without its start: it would begin when the agent comes")
		}
	}
	if f.Unban != nil {
		n, err = n+1, f.Unban.Validate()
		if err == nil && f.Unban.At == 0 {
			err = errors.New("unban without its time: it would lift what began later")
		}
	}
	if f.Hook != nil {
		n, err = n+1, f.Hook.Validate()
		if err == nil && f.Hook.At == 0 {
			err = errors.New("hook without its time")
		}
	}
	if n != 1 {
		return fmt.Errorf("entry with %d calls: want one", n)
	}
	return err
}
