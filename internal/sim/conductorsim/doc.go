// Package conductorsim is a simulated 128T conductor: NETCONF over SSH (and REST) over one configuration tree, with the
// faults of real ones at hand.
package conductorsim
