// Package mark notes that a rare branch was reached. A simulation that has run for long and never reached one of them does
// not test what it seems to test. Without a simulation a mark costs one load.
package mark

import "sync/atomic"

var hook atomic.Pointer[func(string)]

// Reached says that a branch was reached, by a name that says what happened.
func Reached(name string) {
	if f := hook.Load(); f != nil {
		(*f)(name)
	}
}

// Watch has f told of each branch that is reached from now on, from any goroutine; nil ends that.
func Watch(f func(name string)) {
	if f == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&f)
}
