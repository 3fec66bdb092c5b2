// Package conductorsim simulates a 128T conductor: NETCONF over SSH, and REST, over one configuration tree, with the faults
// of real conductors.
//
// A Sim is served on listeners, one for each node and protocol. All fronts (NETCONF, REST, Admin) work on the same
// Datastores, which enforce locks, validation and commits; Config chooses what differs between releases. Inject makes a fault
// happen, and package history records what happened, for a Checker to judge.
//
// Each connection has its own goroutines, and Close ends them all and waits for them. Configuration trees are never changed,
// only replaced, so that readers need no lock. Datastores.mu comes before faultSet.mu, which is taken last; Sim.mu guards
// sessions, listeners and logins.
package conductorsim
