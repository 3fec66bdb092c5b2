// Package restclient keeps a set of address prefixes in one tenant of a conductor's configuration, over the REST API of
// the device's newer releases.
//
// The API has no lock and no session. What a lock would give is made up for by reading: before an edit the candidate is
// compared with running, before the commit it is compared again, and after every write what the device really holds is
// read back. Between the last look and the commit a moment remains in which another administrator can begin to edit;
// nothing that the API offers closes it on releases that share one candidate.
package restclient
