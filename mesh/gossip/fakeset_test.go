package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"sync"

	"banmesh/store"
)

// fakeSet is a set of opaque records, enough of a store for this package.
type fakeSet struct {
	mu    sync.Mutex
	own   store.LogID
	logs  map[store.LogID]map[uint64][]byte
	marks map[store.LogID]uint64
	root  [16]byte
	meta  map[string][]byte
	n     int
	grown chan struct{}         // closed and replaced as records come
	deny  func(rec []byte) bool // records that are refused, as by a limit; nil: none
	hung  chan struct{}         // until it is closed Merge does not return, as on a disk that hangs; nil: it works
}

var _ Set = (*fakeSet)(nil)

func newFakeSet(origin string, epoch uint64) *fakeSet {
	return &fakeSet{
		own: store.LogID{Origin: origin, Epoch: epoch}, logs: map[store.LogID]map[uint64][]byte{},
		marks: map[store.LogID]uint64{}, meta: map[string][]byte{}, grown: make(chan struct{}),
	}
}

func (s *fakeSet) put(log store.LogID, seq uint64, rec []byte) bool {
	l := s.logs[log]
	if l == nil {
		l = map[uint64][]byte{}
		s.logs[log] = l
	}
	if _, ok := l[seq]; ok {
		return false
	}
	l[seq] = rec
	for l[s.marks[log]+1] != nil {
		s.marks[log]++
	}
	h := sha256.New()
	h.Write([]byte(log.Origin))
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, log.Epoch), seq))
	h.Write(rec)
	for i, b := range h.Sum(nil)[:16] {
		s.root[i] ^= b
	}
	s.n++
	return true
}

// add appends own records.
func (s *fakeSet) add(recs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range recs {
		s.put(s.own, s.marks[s.own]+1, []byte(r))
	}
	s.signal()
}

func (s *fakeSet) signal() {
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *fakeSet) size() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n, s.grown
}

func (s *fakeSet) Head() store.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Head{Log: s.own, Seq: s.marks[s.own]}
}

func (s *fakeSet) Holds(log store.LogID, seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[log] >= seq
}

func logHeader(log store.LogID) []byte {
	b := append([]byte{byte(len(log.Origin))}, log.Origin...)
	return binary.BigEndian.AppendUint64(b, log.Epoch)
}

func readLog(b []byte) (store.LogID, []byte, bool) {
	if len(b) < 1 || len(b) < 1+int(b[0])+8 {
		return store.LogID{}, nil, false
	}
	n := 1 + int(b[0])
	return store.LogID{Origin: string(b[1:n]), Epoch: binary.BigEndian.Uint64(b[n:])}, b[n+8:], true
}

// chunk encodes records after a number, up to max bytes. Called with the lock held.
func (s *fakeSet) chunk(log store.LogID, after uint64, max int) ([]byte, uint64) {
	// Contiguous ones first, as nearly all are.
	var seqs []uint64
	for seq := after + 1; s.logs[log][seq] != nil && len(seqs)*10 < max; seq++ {
		seqs = append(seqs, seq)
	}
	if len(seqs) == 0 {
		for seq := range s.logs[log] {
			if seq > after {
				seqs = append(seqs, seq)
			}
		}
		slices.Sort(seqs)
	}
	if len(seqs) == 0 {
		return nil, after
	}
	b := logHeader(log)
	last := after
	for i, seq := range seqs {
		rec := s.logs[log][seq]
		if i > 0 && len(b)+10+len(rec) > max {
			break
		}
		b = binary.BigEndian.AppendUint64(b, seq)
		b = binary.BigEndian.AppendUint16(b, uint16(len(rec)))
		b = append(b, rec...)
		last = seq
	}
	return b, last
}

func (s *fakeSet) Since(after uint64, max int) ([]byte, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunk(s.own, after, max)
}

func (s *fakeSet) Merge(chunk []byte) (store.Merged, error) {
	log, b, ok := readLog(chunk)
	if !ok {
		return store.Merged{}, &store.WireError{Reason: "truncated"}
	}
	s.mu.Lock()
	hung := s.hung
	s.mu.Unlock()
	if hung != nil {
		<-hung
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := store.Merged{Log: log}
	for len(b) > 0 {
		if len(b) < 10 || len(b) < 10+int(binary.BigEndian.Uint16(b[8:])) {
			return m, &store.WireError{Reason: "truncated"}
		}
		n := 10 + int(binary.BigEndian.Uint16(b[8:]))
		m.Last = max(m.Last, binary.BigEndian.Uint64(b))
		if s.deny != nil && s.deny(b[10:n]) {
			m.Refused++
		} else if s.put(log, binary.BigEndian.Uint64(b), slices.Clone(b[10:n])) {
			m.New++
		} else {
			m.Known++
		}
		b = b[n:]
	}
	s.signal()
	return m, nil
}

func (s *fakeSet) digest(full byte, logs []store.LogID) []byte {
	b := []byte{full}
	for _, log := range logs {
		b = append(b, logHeader(log)...)
		b = binary.BigEndian.AppendUint64(b, s.marks[log])
	}
	return b
}

func (s *fakeSet) Digest(int64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var logs []store.LogID
	for log := range s.logs {
		logs = append(logs, log)
	}
	return s.digest(1, logs)
}

func (s *fakeSet) DigestOf(_ int64, logs ...store.LogID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.digest(0, logs)
}

func (s *fakeSet) Deltas(digest []byte, max int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if len(digest) == 0 {
			yield(nil, &store.WireError{Reason: "truncated"})
			return
		}
		full, b := digest[0] == 1, digest[1:]
		theirs := map[store.LogID]uint64{}
		for len(b) > 0 {
			log, rest, ok := readLog(b)
			if !ok || len(rest) < 8 {
				yield(nil, &store.WireError{Reason: "truncated"})
				return
			}
			theirs[log] = binary.BigEndian.Uint64(rest)
			b = rest[8:]
		}
		s.mu.Lock()
		var logs []store.LogID
		for log := range s.logs {
			if _, ok := theirs[log]; ok || full {
				logs = append(logs, log)
			}
		}
		s.mu.Unlock()
		for _, log := range logs {
			after := theirs[log]
			for {
				s.mu.Lock()
				chunk, last := s.chunk(log, after, max)
				s.mu.Unlock()
				if chunk == nil {
					break
				}
				if !yield(chunk, nil) {
					return
				}
				after = last
			}
		}
	}
}

func (s *fakeSet) Root(int64) [16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root
}

func (s *fakeSet) SaveMeta(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta[key] = slices.Clone(value)
	return nil
}

func (s *fakeSet) Meta(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.meta[key]
	return b, ok
}

func (s *fakeSet) Thorough(digest []byte, max int) iter.Seq2[[]byte, error] {
	return s.Deltas(digest, max)
}
