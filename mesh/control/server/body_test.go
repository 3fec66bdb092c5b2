package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"banmesh/mesh/control"
)

// taker is an agent that does nothing and remembers what it was asked.
type taker struct {
	Agent
	got interface{ Validate() error }
}

func (a *taker) Ban(_ context.Context, c control.BanCall) (control.BanReply, error) {
	a.got = c
	return control.BanReply{}, nil
}
func (a *taker) Unban(_ context.Context, c control.UnbanCall) (control.UnbanReply, error) {
	a.got = c
	return control.UnbanReply{}, nil
}
func (a *taker) Allow(_ context.Context, c control.AllowCall) (control.AllowReply, error) {
	a.got = c
	return control.AllowReply{}, nil
}
func (a *taker) DropAllow(_ context.Context, c control.DropAllowCall) (control.DropAllowReply, error) {
	a.got = c
	return control.DropAllowReply{}, nil
}
func (a *taker) Fail2ban(_ context.Context, c control.HookCall) (control.HookReply, error) {
	a.got = c
	return control.HookReply{}, nil
}
func (a *taker) TakeIn(_ context.Context, c control.TakeInCall) (control.TakeInReply, error) {
	a.got = c
	return control.TakeInReply{}, nil
}
func (a *taker) Commit(_ context.Context, c control.CommitCall) (control.CommitReply, error) {
	a.got = c
	return control.CommitReply{}, nil
}
func (a *taker) Join(_ context.Context, c control.JoinCall) (control.JoinReply, error) {
	a.got = c
	return control.JoinReply{}, nil
}
func (a *taker) Forget(_ context.Context, c control.ForgetCall) error {
	a.got = c
	return nil
}
func (a *taker) Revoke(_ context.Context, c control.RevokeCall) (control.RevokeReply, error) {
	a.got = c
	return control.RevokeReply{}, nil
}
func (a *taker) Invitations(context.Context) ([]control.Invitation, error) { return nil, nil }
func (a *taker) Uninvite(_ context.Context, c control.UninviteCall) (control.UninviteReply, error) {
	a.got = c
	return control.UninviteReply{}, nil
}
func (a *taker) Invite(_ context.Context, c control.InviteCall) (control.InviteReply, error) {
	a.got = c
	return control.InviteReply{}, nil
}
func (a *taker) Keyring(_ context.Context, c control.KeyringCall) (control.KeyringReply, error) {
	a.got = c
	return control.KeyringReply{}, nil
}
func (a *taker) History(context.Context, control.HistoryQuery) (control.History, error) {
	return control.History{}, nil
}
func (a *taker) Stats(context.Context, control.StatsQuery) (control.Stats, error) {
	return control.Stats{}, nil
}
func (a *taker) Why(context.Context, netip.Prefix) (control.Why, error) { return control.Why{}, nil }
func (a *taker) List(context.Context, control.ListQuery) (iter.Seq[control.Ban], int, error) {
	return func(func(control.Ban) bool) {}, 0, nil
}

// FuzzCall sends anything to the control socket's server, as body of each change and as query of each read: it answers
// with JSON and a status of its own, and what reaches the agent is valid and means the same when it is written again.
func FuzzCall(f *testing.F) {
	changes := []string{control.PathBan, control.PathUnban, control.PathAllow, control.PathAllowRemove, control.PathFail2ban, control.PathTakeIn, control.PathCommit, control.PathJoin, control.PathRevoke, control.PathForget, control.PathKeyring, control.PathInvite, control.PathUninvite}
	reads := []string{control.PathWhy + "?ip=", control.PathBans + "?prefix="}
	for i, body := range []string{
		`{"prefixes":["203.0.113.7"],"jail":"sshd","start":"2026-01-02T03:04:05.000Z","until":null,"failures":5}`,
		`{"prefixes":[],"all":true,"confirmed":true}`, `{"prefixes":["0.0.0.0/1"],"until":"2026-01-02T03:04:05Z","comment":"x"}`, `{"prefixes":["::1"]}`,
		`{"event":"ban","jail":"sshd","prefixes":["2001:db8::1"],"until":null,"at":"2026-01-02T03:04:05Z"}`, `{"jails":[]}`, `{"force":true}`,
		`{"addrs":["router2:7946"]}`, `{"origin":"router2","block":true}`, `{"op":"install","key":"AAAAAAAAAAAAAAAAAAAAAA=="}`, `192.0.2.1`, `2001:db8::%2f32`,
	} {
		f.Add(uint8(i), []byte(body))
	}
	f.Add(uint8(0), bytes.Repeat([]byte(`{"prefixes":[`), 20_000))
	f.Add(uint8(7), bytes.Repeat([]byte("["), 20_000))
	f.Fuzz(func(t *testing.T, at uint8, body []byte) {
		agent := &taker{}
		s, err := New(Config{Agent: agent, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		i := int(at) % (len(changes) + len(reads))
		var r *http.Request
		if i < len(changes) {
			r = httptest.NewRequest(http.MethodPost, changes[i], bytes.NewReader(body))
		} else {
			r, err = http.NewRequest(http.MethodGet, "http://x"+reads[i-len(changes)]+string(body), nil)
			if err != nil {
				return
			}
		}
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) || w.Code != http.StatusOK && w.Code != statusOf[control.CodeInvalid] && w.Code != statusOf[control.CodeTooLarge] {
			t.Fatalf("%s: status %d, %.300q", r.URL, w.Code, w.Body)
		}
		if w.Code != http.StatusOK && w.Body.Len() > 4096 {
			t.Fatalf("refused with %d bytes", w.Body.Len())
		}
		if agent.got == nil {
			return
		}
		if err := agent.got.Validate(); err != nil {
			t.Fatalf("%+v reached the agent: %v", agent.got, err)
		}
		once, err := json.Marshal(agent.got)
		if err != nil {
			t.Fatal(err)
		}
		first := fmt.Sprintf("%+v", agent.got)
		agent.got = nil
		s.routes().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, changes[i], bytes.NewReader(once)))
		if again := fmt.Sprintf("%+v", agent.got); again != first {
			t.Fatalf("%s came back as %s", first, again)
		}
	})
}
