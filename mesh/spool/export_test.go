package spool

// SetMax sets how many entries the spool may hold.
func SetMax(s *Spool, max int) { s.max = max }

// Decode reads one entry.
func Decode(b []byte) (Entry, error) { return decode(b) }

// Encode writes one entry.
func Encode(e Entry) ([]byte, error) { return e.encode() }
