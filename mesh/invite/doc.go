// Package invite lets a new machine into the mesh by a token that is good for one machine and for a short time.
//
// A member makes the token (Host.New): a random secret of 256 bits, the member's own addresses and the mesh's label. It keeps
// what follows from the secret, from which the secret cannot be had, and the end. The new machine dials the gossip's own TCP
// port, which is what firewalls have open, and speaks TLS 1.3 there (Ask): the first byte tells such a stream from the
// gossip's. Nobody has a certificate of an authority. Each side has an Ed25519 key that is derived from the secret: the
// new machine knows which key the member must show, and the member knows which key the holder of the token must show. So
// both prove that they know the secret, a man in the middle learns and changes nothing, a recording cannot be played
// back, and a token that leaks after its use opens no recording. The gossip's keys play no part in it.
//
// The member then answers one Request with one Welcome: the gossip's keys, the settings that all members share, and whom to
// join. The token is used up, on disk, before the answer leaves. The machine that used it may ask again until the token
// ends, should the answer have been lost: it shows the same random Machine.
//
// Both messages are JSON, and each side ignores fields that it does not know. Request.Identity and Welcome.Admission are
// reserved for a key of the new machine's own and for the mesh's word that it is a member.
package invite
