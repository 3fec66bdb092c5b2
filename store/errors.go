package store

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ErrLocked is returned by Open when another agent holds the file.
var ErrLocked = errors.New("the store file is in use by another agent")

// errDamaged is returned by Open when the file cannot be trusted. Nothing in it was changed.
var errDamaged = errors.New("the store file is damaged")

// ErrClosed is returned by writers after Close.
var ErrClosed = errors.New("the store is closed")

// ErrLimited is returned for a call that would lift more of other members' records than the limits permit.
var ErrLimited = errors.New("this router has lifted as much of what others wrote as limits.lifts_per_minute_per_origin and limits.lifts_per_origin let count: try again in a minute")

// damagedError describes a store file that cannot be trusted. It matches errDamaged.
type damagedError struct {
	Path string
	What string
}

// Error names the file, the damage and the remedy.
func (e *damagedError) Error() string {
	return fmt.Sprintf("store file %s is damaged (%s): start once with `banmesh agent --reset-store`, which keeps it aside and takes the bans back from the other members", e.Path, e.What)
}

// Is makes a *damagedError an errDamaged.
func (e *damagedError) Is(target error) bool { return target == errDamaged }

// SilentError reports a write to the store file that has been under way for longer than a working disk takes: it has neither
// succeeded nor failed. The data waits, and is written when the disk answers.
type SilentError struct {
	path  string
	since time.Duration
}

// Error names the file and the time.
func (e *SilentError) Error() string {
	return fmt.Sprintf("the disk of %s has not answered for %v", e.path, e.since.Round(time.Second))
}

// InvalidError says which part of a call was refused, and why. Nothing of the call was written.
type InvalidError struct {
	index  int
	prefix netip.Prefix
	reason string
}

// Error names the prefix, where there is one, and the reason.
func (e *InvalidError) Error() string {
	if e.prefix == (netip.Prefix{}) {
		return e.reason
	}
	return fmt.Sprintf("%s: %s", e.prefix, e.reason)
}

// WireError says why a peer's bytes were refused. Reason is one of a few fixed texts, so that a metric can count by it.
type WireError struct{ Reason string }

// Error returns the reason.
func (e *WireError) Error() string { return "malformed replication data: " + e.Reason }
