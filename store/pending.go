package store

import (
	"context"
	"iter"
	"net/netip"

	"go4.org/netipx"
)

type disk interface{}

// Store is the replicated set of this member. All methods may be called concurrently.
type Store struct{}

// Merged counts what became of a chunk's records.
type Merged struct {
	Log                             LogID
	New, Known, Superseded, Refused int
}

func Open(Config) (*Store, error)                                              { return nil, nil }
func ResetFile(path string) (aside string, err error)                          { return "", nil }
func (s *Store) Close() error                                                  { return nil }
func (s *Store) Tick(agree bool)                                               {}
func (s *Store) Ban(context.Context, []BanRequest) ([]BanOutcome, error)       { return nil, nil }
func (s *Store) Lift(context.Context, LiftRequest) ([]Lifted, error)           { return nil, nil }
func (s *Store) Allow(context.Context, []AllowRequest) error                   { return nil }
func (s *Store) DropAllow(context.Context, []netip.Prefix) (int, error)        { return 0, nil }
func (s *Store) PublishNeverBan(context.Context, []netip.Prefix, Millis) error { return nil }
func (s *Store) Place(context.Context, []netip.Prefix, Millis) error           { return nil }
func (s *Store) Unplace(context.Context, []netip.Prefix) error                 { return nil }
func (s *Store) Freeze(context.Context) error                                  { return nil }
func (s *Store) Thaw(context.Context) error                                    { return nil }
func (s *Store) Block(ctx context.Context, origin string) error                { return nil }
func (s *Store) Unblock(ctx context.Context, origin string) error              { return nil }
func (s *Store) Head() Head                                                    { return Head{} }
func (s *Store) Since(after uint64, max int) ([]byte, uint64)                  { return nil, 0 }
func (s *Store) Holds(log LogID, seq uint64) bool                              { return false }
func (s *Store) Merge(chunk []byte) (Merged, error)                            { return Merged{}, nil }
func (s *Store) Digest(minute int64) []byte                                    { return nil }
func (s *Store) DigestOf(minute int64, logs ...LogID) []byte                   { return nil }
func (s *Store) Deltas(digest []byte, max int) iter.Seq2[[]byte, error]        { return nil }
func (s *Store) Root(minute int64) [16]byte                                    { return [16]byte{} }
func (s *Store) List(Query) []Entry                                            { return nil }
func (s *Store) Explain(netip.Addr) Explanation                                { return Explanation{} }
func (s *Store) Effective() iter.Seq[EffectiveBan]                             { return nil }
func (s *Store) Gone(netip.Prefix) Gone                                        { return Gone{} }
func (s *Store) Placed() []PlacedEntry                                         { return nil }
func (s *Store) Allows() []AllowEntry                                          { return nil }
func (s *Store) NeverBans() []NeverBanEntry                                    { return nil }
func (s *Store) Shield() *netipx.IPSet                                         { return nil }
func (s *Store) Frozen() (frozen bool, by string)                              { return false, "" }
func (s *Store) Blocked() []string                                             { return nil }
func (s *Store) Counts() Counts                                                { return Counts{} }
func (s *Store) Notices() []Notice                                             { return nil }
func (s *Store) DoneNotice(ctx context.Context, ids ...uint64) error           { return nil }
func (s *Store) SaveMeta(ctx context.Context, key string, value []byte) error  { return nil }
func (s *Store) Meta(key string) ([]byte, bool)                                { return nil, false }
func (s *Store) Health() error                                                 { return nil }
