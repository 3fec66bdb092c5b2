package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// maxLine bounds one line of a history file: a start with a million addresses stays below it.
const maxLine = 256 << 20

// Log is a growing history, in memory and, where it was given a file, appended to that, one JSON object a line.
// Its methods may be called from any goroutine.
type Log struct {
	now func() time.Time

	mu     sync.Mutex
	events []Event
	n      uint64
	file   *os.File
	err    error
	grown  chan struct{} // closed and replaced with each event
}

// NewLog makes a history in memory.
func NewLog(now func() time.Time) *Log {
	return &Log{now: now, grown: make(chan struct{})}
}

// AppendTo makes a history that is also appended to the file named path, which is made when absent. The file is for
// reading while the server runs and after it was killed; it is not synced.
func AppendTo(path string, now func() time.Time) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	l := NewLog(now)
	l.file = f
	return l, nil
}

// Add appends e; its number and time are set here.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	e.N, e.Time = l.n, l.now().UTC()
	l.events = append(l.events, e)
	close(l.grown)
	l.grown = make(chan struct{})
	if l.file == nil || l.err != nil {
		return
	}
	b, err := json.Marshal(e)
	if err == nil {
		_, err = l.file.Write(append(b, '\n'))
	}
	if err != nil {
		l.err = fmt.Errorf("write history: %w", err)
	}
}

// Events returns all that happened so far.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// Commits counts the events of kind Running so far.
func (l *Log) Commits() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if e.Kind == Running {
			n++
		}
	}
	return n
}

// Grown returns a channel that is closed when the next event comes: take it before looking, then wait for it.
func (l *Log) Grown() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// Close closes the file, if any, and returns the first error that writing to it met.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return l.err
	}
	err := l.file.Close()
	l.file = nil
	if l.err != nil {
		return l.err
	}
	return err
}

// Read reads a history that a Log wrote. A last line that is cut short, as a killed server leaves it, is passed over.
func Read(r io.Reader) ([]Event, error) {
	var events []Event
	br := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(br)
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, fmt.Errorf("read history, line %d: %w", n, err)
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return events, fmt.Errorf("read history, line %d: %w", n, err)
		}
		events = append(events, e)
	}
}

// readLine returns the next whole line, io.EOF for what has no line end.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		}
		line = append(line, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		return line, err
	}
}

// ReadFile reads the history file named path.
func ReadFile(path string) ([]Event, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	defer f.Close()
	return Read(f)
}
