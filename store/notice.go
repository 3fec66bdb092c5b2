package store

import "net/netip"

// NoticeKind tells notices apart.
type NoticeKind uint8

// The kinds of notice.
const (
	NoticeUnban NoticeKind = iota + 1 // an own ban was lifted
	NoticeAllow                       // a prefix is allowed until Until
)

// Notice is something that the local fail2ban must be told. Notices are durable: they are written with what caused them and
// stay until DoneNotice.
type Notice struct {
	ID           uint64
	Kind         NoticeKind
	Prefix       netip.Prefix
	Jail         string // NoticeUnban
	Start, Until Millis // NoticeUnban: the ban's, so that a newer offence can be spared
}
