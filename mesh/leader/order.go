package leader

// order recognises heartbeats that were overtaken on the way: an old one must not bring back a closed session or a former
// state.
type order struct {
	last map[string]uint64 // by member
}

const (
	// A number further behind is not late: its sender has restarted.
	late = 1 << 10
	// More names than any fleet has. Beyond it the memory is cleared, which accepts old heartbeats but loses none.
	maxNames = 1 << 13
)

// fresh reports whether seq is newer than the member's earlier ones.
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
