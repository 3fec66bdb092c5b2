package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"banmesh/internal/shell"
)

// A key is rotated in three mesh-wide steps: install the new key everywhere (it opens), use it everywhere (it seals), remove
// the old one.
//
// Members exchange only the short names of keys. A new key travels sealed for each member by a fresh key agreement, so that an
// eavesdropper with the old key does not learn it. The caller is not trusted: before a member changes the key that it seals
// with, or forgets one, it checks itself that the members it has heard answer do so too.

type keyOp uint8

const (
	keyList keyOp = iota
	keyInstall
	keyUse
	keyRemove
)

var keyOpNames = [...]string{"list", "install", "use", "remove"}

// keyCall is a question or a step. For an install, Share is the caller's half of the key agreement; the key follows in a
// keyGift once the member's half has arrived.
type keyCall struct {
	From  string
	Op    uint8
	Name  string // of the key
	Share []byte
}

// keyReply answers a call or a gift.
type keyReply struct {
	From  string
	Error string   // "" on success
	Names []string // of the keys, the sealing one first
	Share []byte
}

// keyGift is the new key, sealed.
type keyGift struct {
	Sealed []byte
}

var (
	errNoKeyring = errors.New("this mesh is not encrypted: there are no keys to manage")
	errRemoteOff = errors.New("its keyring is changed by hand alone: gossip.remote_keyring is false there")
	errRefused   = errors.New("it refuses")
	errOldKeys   = errors.New("it hangs up: if it is of an earlier version, upgrade it first")
)

// KeyStatus is one key and which members have it.
type KeyStatus struct {
	Key     string   // its name, see KeyName
	Members []string // that can open with it, by name
	Using   []string // those of them that seal with it
}

// ListKeys asks every alive member for its keys. The error names the members that did not answer; the others' answers are
// returned nevertheless.
func (m *Mesh) ListKeys(ctx context.Context) ([]KeyStatus, error) {
	if m.ring == nil {
		return nil, errNoKeyring
	}
	answers, err := m.askKeys(ctx, m.ring, keyCall{Op: uint8(keyList)}, nil, m.table.others())
	answers[m.cfg.Name] = m.ring.names()
	byKey := map[string]*KeyStatus{}
	for name, keys := range answers {
		for i, k := range keys {
			st := byKey[k]
			if st == nil {
				st = &KeyStatus{Key: k}
				byKey[k] = st
			}
			st.Members = append(st.Members, name)
			if i == 0 {
				st.Using = append(st.Using, name)
			}
		}
	}
	var out []KeyStatus
	for _, st := range byKey {
		slices.Sort(st.Members)
		slices.Sort(st.Using)
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b KeyStatus) int {
		if d := len(b.Using) - len(a.Using); d != 0 {
			return d
		}
		return strings.Compare(a.Key, b.Key)
	})
	return out, err
}

// InstallKey sends a key (base64) to every member that counts, which keeps it in its keyring file. Repeat it for members that
// were missed.
func (m *Mesh) InstallKey(ctx context.Context, key string) error {
	return m.changeKeys(ctx, keyInstall, key, false)
}

// UseKey has every member seal with an installed key, given in base64 or by its name. It is refused while a member that has not
// left does not confirm that it holds the key. force skips the members that do not answer; those are cut off until an operator
// gives them the key.
func (m *Mesh) UseKey(ctx context.Context, key string, force bool) error {
	return m.changeKeys(ctx, keyUse, key, force)
}

// RemoveKey drops a key, given in base64 or by its name, everywhere. It is refused while a member that has not left still seals
// with it or does not answer; force skips the silent ones.
func (m *Mesh) RemoveKey(ctx context.Context, key string, force bool) error {
	return m.changeKeys(ctx, keyRemove, key, force)
}

// changeKeys makes one step of a change of keys on all members, one step at a time on this one. Repeating a step is harmless, and
// the way on after an error.
func (m *Mesh) changeKeys(ctx context.Context, op keyOp, key string, force bool) error {
	if m.ring == nil {
		return errNoKeyring
	}
	m.rotate.Lock()
	defer m.rotate.Unlock()
	raw, err := m.ring.find(key)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(m.table.others()), func(t target) bool { return m.ignores(t.name) })
	if op != keyInstall {
		if err := m.confirm(ctx, op, raw, others, force); err != nil {
			return err
		}
	}
	// The own ring changes last if a key is taken away, first if one is added: the answers must be readable either way.
	if op == keyInstall {
		if err := m.applyKey(op, raw); err != nil {
			return err
		}
	}
	answers, err := m.askKeys(ctx, m.ring, keyCall{Op: uint8(op), Name: KeyName(raw)}, raw, others)
	if err != nil && !(force && (len(answers) > 0 || len(others) == 0)) {
		return fmt.Errorf("not all members confirmed, repeat the command when they answer: %w", err)
	}
	if op != keyInstall {
		if err := m.applyKey(op, raw); err != nil {
			return err
		}
	}
	// A refusal is never skipped: that member is alive, and would be cut off.
	if errors.Is(err, errRefused) { // force skips the silent ones
		return fmt.Errorf("changed here, and not on all members: %w", err)
	}
	return nil
}

func (m *Mesh) ignores(name string) bool { return m.cfg.Ignore != nil && m.cfg.Ignore(name) }

// confirm makes sure that the step cuts nobody off.
func (m *Mesh) confirm(ctx context.Context, op keyOp, raw []byte, others []target, force bool) error {
	if op == keyUse && !m.ring.has(raw) {
		return errors.New("the key is not installed here: install it first")
	}
	if op == keyRemove && bytes.Equal(m.ring.raw()[0], raw) {
		return errors.New("the key is in use here: use another one first")
	}
	if !force {
		for _, member := range m.table.members(0) {
			if member.State == Failed {
				return fmt.Errorf("member %s (%s) is down and cannot confirm: wait for it, or `banmesh forget %s` if it is not coming back, or repeat with --force: it needs the key by hand then", member.Name, member.Addr, shell.Argument(member.Name))
			}
		}
	}
	answers, err := m.askKeys(ctx, m.ring, keyCall{Op: uint8(keyList)}, nil, others)
	if err != nil && !force {
		return fmt.Errorf("not all members confirmed: %w", err)
	}
	name := KeyName(raw)
	for member, keys := range answers {
		switch {
		case op == keyUse && !slices.Contains(keys, name):
			return fmt.Errorf("member %s has not got the key: install it again", member)
		case op == keyRemove && len(keys) > 0 && keys[0] == name:
			return fmt.Errorf("member %s still uses the key: use another one first", member)
		}
	}
	return nil
}

// askKeys makes a call to many members at once and returns the names of their keys. The error joins those of the members that
// failed or refused.
func (m *Mesh) askKeys(ctx context.Context, ring *keyring, call keyCall, raw []byte, to []target) (map[string][]string, error) {
	call.From = m.cfg.Name
	var mu sync.Mutex
	var errs []error
	answers := make(map[string][]string)
	var wg sync.WaitGroup
	// Not all of a thousand members at once: each call is a stream with keys of its own.
	slots := make(chan struct{}, 16)
	for _, t := range to {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			names, err := m.askKey(ctx, ring, call, raw, t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("member %s: %w", t.name, err))
				return
			}
			answers[t.name] = names
		}()
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

// askKey asks one member on a stream of its own. A call names a key and never holds it; a new key crosses only after a
// Diffie-Hellman exchange for this call, so that a recording of the stream and a gossip key that leaks later do not reveal it.
func (m *Mesh) askKey(ctx context.Context, ring *keyring, call keyCall, raw []byte, t target) ([]string, error) {
	s, done, err := m.talkWith(ring, t.addr, m.tune.DialTimeout)
	if err != nil {
		return nil, err
	}
	defer done()
	defer context.AfterFunc(ctx, func() { _ = s.c.Close() })()
	if keyOp(call.Op) == keyList {
		s.stall = min(s.stall, keyListTime)
	}
	var own *keyHalf
	if keyOp(call.Op) == keyInstall {
		if own, err = newKeyHalf(); err != nil {
			return nil, err
		}
		call.Share = own.share()
	}
	if err := s.writeMsg(kindKeyCall, call); err != nil {
		return nil, err
	}
	answer, err := m.keyAnswer(s, t.name)
	if err != nil || own == nil {
		return answer.Names, err
	}
	sealed, err := own.seal(answer.Share, raw)
	if err != nil {
		return nil, err
	}
	if err := s.writeMsg(kindKeyGift, keyGift{Sealed: sealed}); err != nil {
		return nil, err
	}
	answer, err = m.keyAnswer(s, t.name)
	return answer.Names, err
}

// keyAnswer checks who answers: with a stale address another member may be there, whose keyring says nothing
// about the one that was asked.
func (m *Mesh) keyAnswer(s *messages, name string) (keyReply, error) {
	var a keyReply
	err := s.expect(kindKeyReply, 4, &a)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return a, errOldKeys
	case err != nil:
		return a, err
	case a.From != name:
		return a, fmt.Errorf("it answers as %q", a.From)
	case a.Error != "":
		return a, fmt.Errorf("%w: %s", errRefused, a.Error)
	}
	return a, nil
}

// serveKey answers with the names of the keys that are held afterwards, also after a refusal, so that the
// caller need not ask again. It never sends a key.
func (m *Mesh) serveKey(s *messages, payload []byte, from string) {
	var k keyCall
	if !m.read(payload, 4, &k, &k.From, from) {
		return
	}
	reply := keyReply{From: m.cfg.Name}
	err := m.keyStep(s, k, from)
	if err != nil {
		reply.Error = err.Error()
		if keyOp(k.Op) != keyList {
			m.log.Warn("a change of the keyring is refused", "caller", k.From, "from", from, "error", err)
		}
	}
	if m.ring != nil {
		reply.Names = m.ring.names()
	}
	if err := s.writeMsg(kindKeyReply, reply); err != nil {
		m.count.drop("stream ended early")
	}
}

// keyStep carries out a step that another member requests.
func (m *Mesh) keyStep(s *messages, k keyCall, from string) error {
	op := keyOp(k.Op)
	switch {
	case m.ring == nil:
		return errNoKeyring
	case op == keyList:
		return nil
	case op > keyRemove:
		return fmt.Errorf("unknown operation %d", k.Op)
	case m.cfg.LocalKeyring:
		return errRemoteOff
	case m.ignores(k.From):
		return fmt.Errorf("%s does not count here", k.From)
	}
	if op == keyInstall {
		raw, err := m.takeKey(s, k)
		if err != nil {
			return err
		}
		if err := m.applyKey(op, raw); err != nil {
			return err
		}
	} else {
		if !slices.Contains(m.ring.names(), k.Name) {
			if op == keyRemove {
				return nil // already removed
			}
			return fmt.Errorf("it has no key of the name %.64q", k.Name)
		}
		raw, err := m.ring.find(k.Name)
		if err != nil {
			return err
		}
		if err := m.majority(op, k.Name); err != nil {
			return err
		}
		if err := m.applyKey(op, raw); err != nil {
			return err
		}
	}
	m.keyNews.note(op, k.Name, k.From, from, m.cfg.Now())
	m.log.Warn("keyring changed by another member", "op", keyOpNames[op], "key", k.Name, "caller", k.From, "from", from)
	return nil
}

// takeKey receives a new key.
func (m *Mesh) takeKey(s *messages, k keyCall) ([]byte, error) {
	own, err := newKeyHalf()
	if err != nil {
		return nil, err
	}
	if err := s.writeMsg(kindKeyReply, keyReply{From: m.cfg.Name, Names: m.ring.names(), Share: own.share()}); err != nil {
		return nil, err
	}
	var g keyGift
	if err := s.expect(kindKeyGift, 1, &g); err != nil {
		return nil, err
	}
	raw, err := own.open(k.Share, g.Sealed)
	if err != nil {
		return nil, err
	}
	// The name was logged and shown to operators; the key has to be that one.
	if KeyName(raw) != k.Name {
		return nil, errors.New("the key is not the one that was named")
	}
	return raw, nil
}

// majority asks the members that have been heard to answer whether most of them hold the key that is to be used, or seal with
// the key that this member would be left with. Each host has one vote. A single different answer means no: invented members at
// many addresses would outvote the honest ones, and the step would cut those off.
func (m *Mesh) majority(op keyOp, name string) error {
	ctx, cancel := context.WithTimeout(m.ctx, 2*keyListTime)
	defer cancel()
	own := m.ring.names()[0]
	if op == keyRemove && own == name {
		return errors.New("the key in use cannot be removed: use another one first")
	}
	asked := *m.table.proven.Load()
	answers, _ := m.askKeys(ctx, m.ring, keyCall{Op: uint8(keyList)}, nil, asked)
	if op == keyRemove { // one that opens only what is sealed with that key would be cut off, and has not answered
		m.askSilent(name, asked, answers)
	}
	// A member that has just started or is cut off is not a majority by itself.
	// Otherwise a caller could isolate a router by cutting it off first and changing its key then.
	if len(answers) == 0 && m.known.others() {
		return errors.New("none of the members that it knows has answered it yet: repeat the command in a minute")
	}
	voices, agree := map[string]bool{voice(m.addr()): true}, map[string]bool{voice(m.addr()): true}
	for _, t := range asked {
		v := voice(t.addr)
		voices[v] = true
		keys := answers[t.name]
		switch {
		case len(keys) == 0 || m.ignores(t.name): // it has not answered, or does not count
		case op == keyUse && !slices.Contains(keys, name):
			return fmt.Errorf("member %s (%s) does not hold the key", t.name, t.addr)
		case op == keyRemove && keys[0] != own:
			return fmt.Errorf("member %s (%s) does not use the key that it would be left with", t.name, t.addr)
		default:
			agree[v] = true
		}
	}
	if 2*len(agree) > len(voices) {
		return nil
	}
	if op == keyUse {
		return fmt.Errorf("only %d of the %d hosts that it hears hold the key", len(agree), len(voices))
	}
	return fmt.Errorf("only %d of the %d hosts that it hears use the key that it would be left with", len(agree), len(voices))
}

// askSilent asks those that have not answered with another key of the own ring.
func (m *Mesh) askSilent(name string, asked []target, answers map[string][]string) {
	raw, err := m.ring.find(name)
	if err != nil {
		return
	}
	ring, err := newKeyring([][]byte{raw, m.ring.raw()[0]})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, 2*keyListTime)
	defer cancel()
	silent := slices.DeleteFunc(slices.Clone(asked), func(t target) bool { return len(answers[t.name]) > 0 })
	more, _ := m.askKeys(ctx, ring, keyCall{Op: uint8(keyList)}, nil, silent)
	maps.Copy(answers, more)
}

// applyKey carries out the step here and in the keyring file. The file is written first, because a member must not lose at its
// restart a key that it confirmed.
func (m *Mesh) applyKey(op keyOp, raw []byte) error {
	m.keyMu.Lock()
	defer m.keyMu.Unlock()
	before := m.ring.raw()
	var err error
	switch op {
	case keyInstall:
		err = m.ring.install(raw)
	case keyUse:
		err = m.ring.use(raw)
	case keyRemove:
		err = m.ring.remove(raw)
	}
	if err != nil || m.cfg.KeyringFile == "" || len(m.cfg.Keys) > 0 {
		return err
	}
	if err := saveKeyring(m.cfg.KeyringFile, m.ring.raw()); err != nil {
		if old, rerr := newKeyring(before); rerr == nil {
			m.ring.keys.Store(old.keys.Load())
		}
		return err
	}
	m.log.Info("keyring changed", "keys", len(m.ring.all()))
	return nil
}
