package gossip

import (
	"errors"

	"banmesh/mesh/packed"
	"banmesh/store/text"
)

// nodeMeta travels in memberlist's alive messages, in at most 512 bytes.
type nodeMeta struct {
	Version  string
	Eligible bool
	Priority int64
	Run      uint64 // drawn at each start: distinguishes a restart from an echo
}

const metaVersion = 1

var errMeta = errors.New("unreadable member data")

// encode reuses the frame's encoder and puts its own version where the kind of a frame would be.
func (m nodeMeta) encode() []byte {
	b := encode(0, m)
	b[1] = metaVersion
	return b[1:]
}

// decodeMeta bounds and cleans what is shown: it comes from another member and ends up on terminals.
func decodeMeta(b []byte) (nodeMeta, error) {
	var m nodeMeta
	if len(b) < 2 || b[0] != metaVersion {
		return m, errMeta
	}
	if err := packed.Decode(b[1:], 4, &m); err != nil {
		return nodeMeta{}, errMeta
	}
	// An honest member refuses to start with a longer one.
	if len(m.Version) > 64 {
		return nodeMeta{}, errMeta
	}
	m.Version = text.Clean(m.Version, 64) // it is displayed
	return m, nil
}
