// Package invite lets a new machine into the mesh with a token that is good for one machine and a short time.
//
// A member makes the token (Host.Invite): a random secret of 256 bits, the member's addresses and the mesh's label. It stores
// only keys derived from the secret, and the expiry. The new machine (Ask) dials the gossip's TCP port, which firewalls have
// open, and speaks TLS 1.3; the first byte distinguishes that from gossip. There are no certificates of an authority. Each
// side derives an Ed25519 key from the secret and knows which key the other must show. So both prove that they know the
// secret. A man in the middle learns and changes nothing, a recording cannot be replayed, and a token that leaks later does
// not decrypt one. The gossip keys play no part in it.
//
// The member answers one Request with one Welcome: the gossip keys, the settings that all members share, and addresses to
// join. Before that, it marks the token as used, on disk. If the answer is lost, the same machine may ask again until the
// token expires: it shows the same random Machine. Both messages are JSON, and each side ignores unknown fields.
// Request.Identity and Welcome.Admission are reserved for a key of the new machine's own and the mesh's confirmation of its
// membership.
//
// Serve runs in the caller's goroutine for each stream, with another for the decision, since a hanging disk must not hold the
// stream. In the book, writer comes before mu; the guard's lock is a leaf.
package invite
