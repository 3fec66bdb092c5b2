package leader

// order recognises words that were overtaken on the way: an old one must not
// bring a closed session or a former state back.
type order struct {
	last map[string]uint64 // by member
}

const (
	// A word that is behind by more is not late: its sender has started anew.
	late = 1 << 10
	// More names than any fleet has; the memory is only lost, not the words.
	maxNames = 1 << 13
)

// fresh reports whether seq is newer than what the member has said before.
func (o *order) fresh(name string, seq uint64) bool {
	last, ok := o.last[name]
	if ok && last-seq < late { // modulo 2⁶⁴
		return false
	}
	if !ok && len(o.last) >= maxNames || o.last == nil {
		o.last = make(map[string]uint64)
	}
	o.last[name] = seq
	return true
}
