// Package simnet is a network in memory for tests of the mesh: packets and streams with latency, loss, reordering,
// duplication, one-way cuts and crashes.
//
// Attach puts a host on the network. A Host is a memberlist.Transport and also listens and dials like package net. What it
// sends becomes an event with a time, decided by Config and its seed.
//
// The network's goroutine runs the events when they are due, until Close. Everything waits on channels or timers, so that the
// network works in a testing/synctest bubble, where a simulated hour takes no time. A stream's lock comes before the
// network's, and two ends of a stream are never locked at once.
package simnet

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Config says how the network behaves. The zero value delivers everything at once.
type Config struct {
	Seed      uint64        // for everything random
	Latency   time.Duration // one way
	Jitter    time.Duration // at most this is added, without changing the order
	Loss      float64       // share of lost packets, and of stream segments delayed by a retransmission
	Duplicate float64       // share of packets delivered twice
	Reorder   float64       // share of packets delayed by up to three more latencies
}

// Counts are totals of packets and of the contents of streams.
type Counts struct {
	Packets, Bytes            uint64 // sent
	Lost, Duplicated, Dropped uint64 // dropped: by a cut, a crash or a full queue
	Streams, StreamBytes      uint64
}

// Network connects hosts. Create it inside the bubble, and close it before the bubble ends.
type Network struct {
	mu     sync.Mutex
	cfg    Config
	rng    *rand.Rand
	hosts  map[netip.AddrPort]*Host
	cuts   map[[2]netip.Addr]bool
	mutes  map[[2]netip.Addr]bool
	shuts  map[[2]netip.Addr]bool
	queue  events
	seq    uint64
	counts Counts
	closed bool

	wake chan struct{}
	done chan struct{}
	wg   sync.WaitGroup
}

// event happens at a given time; events of the same time keep their order.
type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

// New returns a network without hosts.
func New(cfg Config) *Network {
	n := &Network{
		cfg:   cfg,
		rng:   rand.New(rand.NewPCG(cfg.Seed, 0x5ee)),
		hosts: make(map[netip.AddrPort]*Host),
		cuts:  make(map[[2]netip.Addr]bool),
		mutes: make(map[[2]netip.Addr]bool),
		shuts: make(map[[2]netip.Addr]bool),
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	n.wg.Add(1)
	go n.run()
	return n
}

// Close ends the network: nothing is delivered any more.
func (n *Network) Close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	close(n.done)
	n.mu.Unlock()
	n.wg.Wait()
}

// run runs events when they are due.
func (n *Network) run() {
	defer n.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		wait := time.Hour
		var do func()
		if len(n.queue) > 0 {
			if wait = time.Until(n.queue[0].at); wait <= 0 {
				do = heap.Pop(&n.queue).(event).do
			}
		}
		n.mu.Unlock()
		if do != nil {
			do()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.done:
			return
		}
	}
}

// after schedules do, which must not block. The caller holds the lock.
func (n *Network) after(d time.Duration, do func()) {
	n.seq++
	heap.Push(&n.queue, event{time.Now().Add(d), n.seq, do})
	if n.queue[0].seq == n.seq {
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// Set changes how the network behaves from now on; the seed stays.
func (n *Network) Set(change func(*Config)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.cfg)
}

// Cut stops everything from one host to another, one way.
func (n *Network) Cut(from, to netip.Addr) { n.set(from, to, true) }

// Mute stops packets from one host to another, one way, but lets streams pass, like a firewall with only TCP open. Heal
// undoes it.
func (n *Network) Mute(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mutes[[2]netip.Addr{from, to}] = true
}

// Shut stops streams from one host to another, but lets packets pass, like a firewall with only UDP open. Heal undoes it.
func (n *Network) Shut(from, to netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shuts[[2]netip.Addr{from, to}] = true
}

// Uncut undoes Cut.
func (n *Network) Uncut(from, to netip.Addr) { n.set(from, to, false) }

func (n *Network) set(from, to netip.Addr, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.cuts[[2]netip.Addr{from, to}] = true
	} else {
		delete(n.cuts, [2]netip.Addr{from, to})
	}
}

// Partition cuts both ways between hosts of different groups.
func (n *Network) Partition(groups ...[]netip.Addr) {
	for i, a := range groups {
		for j, b := range groups {
			if i == j {
				continue
			}
			for _, from := range a {
				for _, to := range b {
					n.Cut(from, to)
				}
			}
		}
	}
}

// Heal undoes every Cut, Mute and Shut.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	clear(n.mutes)
	clear(n.shuts)
}

// Counts returns the totals so far.
func (n *Network) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

var errInUse = errors.New("address already in use")

// Attach puts a host on the network. Addresses of hosts that crashed or were shut down are free again.
func (n *Network) Attach(addr netip.AddrPort) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		return nil, fmt.Errorf("attach %s: %w", addr, errInUse)
	}
	h := newHost(n, addr)
	n.hosts[addr] = h
	return h, nil
}

// chance returns true with probability p. The caller holds the lock.
func (n *Network) chance(p float64) bool { return p > 0 && n.rng.Float64() < p }

// delay returns the time of one trip. The caller holds the lock.
func (n *Network) delay() time.Duration {
	d := n.cfg.Latency
	if n.cfg.Jitter > 0 {
		d += time.Duration(n.rng.Int64N(int64(n.cfg.Jitter)))
	}
	return d
}

// Open reports whether packets and streams pass from one host to another.
func (n *Network) Open(from, to netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open(from, to) && n.passes(from, to)
}

// open reports whether streams pass. The caller holds the lock.
func (n *Network) open(from, to netip.Addr) bool {
	way := [2]netip.Addr{from, to}
	return !n.cuts[way] && !n.shuts[way]
}

// passes reports whether packets pass. The caller holds the lock.
func (n *Network) passes(from, to netip.Addr) bool {
	way := [2]netip.Addr{from, to}
	return !n.cuts[way] && !n.mutes[way]
}
