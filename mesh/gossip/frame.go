package gossip

import (
	"fmt"

	"banmesh/mesh/packed"
)

// A frame is one byte of version, one of kind, and a msgpack array. Frames of an unknown version or kind are dropped and
// counted, so that newer members can use them among themselves.
const frameVersion = 1

// Kinds of frames in packets.
const (
	kindPush    = 1 // records of the sender's own log
	kindRelay   = 2 // a push to pass on to a slice of the members
	kindHeads   = 3 // how far logs are
	kindPull    = 4 // a digest of a few logs: send what I lack of them
	kindDelta   = 5 // the answer to a pull
	kindAsk     = 6 // a stamp: send me yours
	kindAnswer  = 7 // the answer to it
	kindMessage = 8 // another package's, see Send
	kindLeaving = 9 // the sender is about to stop for good
)

// Kinds of messages in streams.
const (
	kindHello   = 32
	kindWelcome = 33
	kindBusy    = 34
	kindDigest  = 35
	kindChunk   = 36
	kindDone    = 37
	kindWho     = 38
	kindHolder  = 39
	// 40 and 41 carried unencrypted keys up to version 0.2. They stay unused: such a member must not take another message for one.
	kindKeyCall  = 42
	kindKeyReply = 43
	kindKeyGift  = 44
)

// pushMsg brings new records of one log as a chunk (see store). A receiver that lacks what came before Seq
// asks for it.
type pushMsg struct {
	From  string
	Seq   uint64 // of the last record in the chunk
	Chunk []byte
}

// relayMsg has a relay pass a push on to its slice of the members. Who belongs to which slice follows from
// the number of slices, the salt and each name's hash, so that no list of members needs to be sent.
type relayMsg struct {
	From   string
	Slices uint32
	Slice  uint32
	Salt   uint32
	Relays []uint32 // hashes of the names of the slice's relays
	Frame  []byte   // the push, as a frame
}

// headMsg says how far a log goes; headsMsg carries a few of them, for receivers that missed a push.
type headMsg struct {
	Origin string
	Epoch  uint64
	Seq    uint64
}

type headsMsg struct {
	From  string
	Heads []headMsg
	Reply bool // send me yours
	Bulk  bool // much is missing: pulling by packets is no use
}

// pullMsg asks for what its digest lacks; deltaMsg is one chunk of the answer.
type pullMsg struct {
	From   string
	Digest []byte
}

type deltaMsg struct {
	From  string
	Chunk []byte
}

// stampMsg is a question for the receiver's summary, or the answer with the same nonce.
type stampMsg struct {
	From  string
	Nonce uint32
	Stamp []byte
}

// messageMsg carries what other packages tell other members; gossip does not look inside.
type messageMsg struct {
	From    string
	Payload []byte
}

// leavingMsg names the run that leaves, so that one which comes late does not send away the run after it.
type leavingMsg struct {
	From string
	Run  uint64
}

// maxHeads is how many heads one frame carries.
const maxHeads = 12

// encode makes a frame of any of the messages above.
func encode(kind byte, msg any) []byte {
	b, err := packed.Append([]byte{frameVersion, kind}, msg)
	if err != nil {
		// This fails only for a type that msgpack cannot encode, and none of ours is one.
		panic(fmt.Sprintf("gossip: encode frame of kind %d: %v", kind, err))
	}
	return b
}
