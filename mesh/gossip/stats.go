package gossip

import (
	"maps"
	"sync"
	"sync/atomic"

	"banmesh/store"
)

// Stats is a copy of the counters since the start.
type Stats struct {
	PacketsSent, PacketsReceived uint64 // all packets on the wire, including memberlist's
	BytesSent, BytesReceived     uint64 // of packets, with their encryption
	StreamsOpened, StreamsTaken  uint64
	StreamBytesSent              uint64
	StreamBytesReceived          uint64
	Pushes, Relays, Pulls        uint64 // frames sent
	Exchanges, ExchangesServed   uint64 // completed
	RecordsMerged                uint64 // new to this member, by push or exchange
	RecordsRefused               uint64 // not taken: unreadable, over a bound against floods, or of a newer version's kind
	RecordsSent                  uint64 // once for each push, pull and exchange, however many members it goes to

	// Dropped counts what was refused or lost, by reason.
	Dropped map[string]uint64
}

// sentChunk counts the records of a chunk that is sent.
func (c *counters) sentChunk(chunk []byte) { c.sent.Add(uint64(store.ChunkRecords(chunk))) }

// Atomics: they count on the way of every packet.
type counters struct {
	packetsSent, packetsReceived         atomic.Uint64
	bytesSent, bytesReceived             atomic.Uint64
	streamsOpened, streamsTaken          atomic.Uint64
	streamBytesSent, streamBytesReceived atomic.Uint64
	pushes, relays, pulls                atomic.Uint64
	exchanges, exchangesServed           atomic.Uint64
	merged, refused, sent                atomic.Uint64 // records

	mu      sync.Mutex // a leaf: nothing is called under it
	dropped map[string]uint64
}

// drop counts one loss. Reasons are constants of this package, so the map stays small.
func (c *counters) drop(reason string) {
	c.mu.Lock()
	if c.dropped == nil {
		c.dropped = make(map[string]uint64)
	}
	c.dropped[reason]++
	c.mu.Unlock()
}

func (c *counters) snapshot() Stats {
	s := Stats{
		PacketsSent: c.packetsSent.Load(), PacketsReceived: c.packetsReceived.Load(),
		BytesSent: c.bytesSent.Load(), BytesReceived: c.bytesReceived.Load(),
		StreamsOpened: c.streamsOpened.Load(), StreamsTaken: c.streamsTaken.Load(),
		StreamBytesSent: c.streamBytesSent.Load(), StreamBytesReceived: c.streamBytesReceived.Load(),
		Pushes: c.pushes.Load(), Relays: c.relays.Load(), Pulls: c.pulls.Load(),
		Exchanges: c.exchanges.Load(), ExchangesServed: c.exchangesServed.Load(),
		RecordsMerged: c.merged.Load(), RecordsRefused: c.refused.Load(), RecordsSent: c.sent.Load(),
	}
	c.mu.Lock()
	s.Dropped = maps.Clone(c.dropped)
	c.mu.Unlock()
	if s.Dropped == nil {
		s.Dropped = map[string]uint64{}
	}
	return s
}
