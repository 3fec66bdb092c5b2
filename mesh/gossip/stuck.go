package gossip

import (
	"errors"
	"fmt"
	"net"
)

// Why exchanges with a member lead nowhere, as far as can be told.
var (
	errStall   = errors.New("exchanges with it begin and stall")
	errUntaken = errors.New("it is sent what it lacks, and does not show it")
)

// stallsTold is after how many fruitless exchanges in a row it is said.
const stallsTold = 2

// stalled is the error of an exchange that had begun. One that makes no progress
// has another cause than a stream that cannot be opened: its first messages, which
// are small, have passed.
func stalled(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return fmt.Errorf("%w: %w", errStall, err)
	}
	return err
}

// stall notes an exchange that led nowhere. Called with the lock held.
func (p *peer) stall(err error) {
	p.stuck = err
	p.stalls++
}

// stuckBy says why the member still does not agree. Called with the lock held.
func (p *peer) stuckBy() error {
	if p.state != Alive || p.sync == Agrees || p.stalls < stallsTold {
		return nil
	}
	return p.stuck
}
