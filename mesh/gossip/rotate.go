package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Key rotation in three steps, each of the whole mesh: install the new key
// everywhere (it opens), use it everywhere (it seals), remove the old one.
// AES-GCM with random nonces wants a new key once a month in a large mesh.

type keyOp uint8

const (
	keyList keyOp = iota
	keyInstall
	keyUse
	keyRemove
)

type keyMsg struct {
	From string
	Op   uint8
	Key  []byte
}

type keyDoneMsg struct {
	From  string
	Error string   // "" when done
	Keys  [][]byte // after the call, the one that seals first
}

var errNoKeyring = errors.New("this mesh is not encrypted: there are no keys to manage")

// KeyStatus is one key and which members have it.
type KeyStatus struct {
	Key     string   // its name, see KeyName
	Members []string // that can open with it, by name
	Using   []string // of these, those that seal with it
}

// ListKeys asks every alive member for its keys. The error names members that
// did not answer; what the others said is returned all the same.
func (m *Mesh) ListKeys(ctx context.Context) ([]KeyStatus, error) {
	if m.ring == nil {
		return nil, errNoKeyring
	}
	answers, err := m.askKeys(ctx, keyList, nil, m.table.others())
	byKey := map[string]*KeyStatus{}
	note := func(name string, keys [][]byte) {
		for i, k := range keys {
			s := KeyName(k)
			st := byKey[s]
			if st == nil {
				st = &KeyStatus{Key: s}
				byKey[s] = st
			}
			st.Members = append(st.Members, name)
			if i == 0 {
				st.Using = append(st.Using, name)
			}
		}
	}
	note(m.cfg.Name, m.ring.raw())
	for name, a := range answers {
		note(name, a.Keys)
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

// InstallKey gives a key (base64) to every member, which keeps it in its keyring
// file. It may be repeated: members that were missed get it then.
func (m *Mesh) InstallKey(ctx context.Context, key string) error {
	return m.changeKeys(ctx, keyInstall, key, true)
}

// UseKey has every member seal with an installed key, given in base64 or by its
// name. It is refused while a
// member that has not left does not confirm that it holds the key; force leaves
// out those that do not answer, which are cut off until they get the key by hand.
func (m *Mesh) UseKey(ctx context.Context, key string, force bool) error {
	return m.changeKeys(ctx, keyUse, key, force)
}

// RemoveKey drops a key, given in base64 or by its name, everywhere. It is refused while a member that has not
// left still seals with it or does not answer; force leaves out the silent ones.
func (m *Mesh) RemoveKey(ctx context.Context, key string, force bool) error {
	return m.changeKeys(ctx, keyRemove, key, force)
}

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
	others := m.table.others()
	if op != keyInstall {
		if err := m.confirm(ctx, op, raw, others, force); err != nil {
			return err
		}
	}
	// The own ring last when a key is taken away, first when one is added: the
	// answers must be readable either way.
	if op == keyInstall {
		if err := m.applyKey(op, raw); err != nil {
			return err
		}
	}
	answers, err := m.askKeys(ctx, op, raw, others)
	if err != nil && !(force && op != keyInstall && len(answers) > 0) {
		return fmt.Errorf("not all members confirmed, repeat the command when they answer: %w", err)
	}
	if op != keyInstall {
		return m.applyKey(op, raw)
	}
	return nil
}

// confirm makes sure that nobody is cut off by the step.
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
				return fmt.Errorf("member %s (%s) is down and cannot confirm: wait for it, or force the step and give it the key by hand", member.Name, member.Addr)
			}
		}
	}
	answers, err := m.askKeys(ctx, keyList, nil, others)
	if err != nil && !force {
		return fmt.Errorf("not all members confirmed: %w", err)
	}
	for name, a := range answers {
		has := slices.ContainsFunc(a.Keys, func(k []byte) bool { return bytes.Equal(k, raw) })
		switch {
		case op == keyUse && !has:
			return fmt.Errorf("member %s has not got the key: install it again", name)
		case op == keyRemove && len(a.Keys) > 0 && bytes.Equal(a.Keys[0], raw):
			return fmt.Errorf("member %s still uses the key: use another one first", name)
		}
	}
	return nil
}

// askKeys asks many members at once. The error joins those of members that
// failed or refused.
func (m *Mesh) askKeys(ctx context.Context, op keyOp, raw []byte, to []target) (map[string]keyDoneMsg, error) {
	var mu sync.Mutex
	var errs []error
	answers := make(map[string]keyDoneMsg)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, t := range to {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			a, err := m.askKey(ctx, op, raw, t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("member %s: %w", t.name, err))
				return
			}
			answers[t.name] = a
		}()
	}
	wg.Wait()
	return answers, errors.Join(errs...)
}

func (m *Mesh) askKey(ctx context.Context, op keyOp, raw []byte, t target) (keyDoneMsg, error) {
	var a keyDoneMsg
	s, done, err := m.talk(t.addr, m.tune.DialTimeout)
	if err != nil {
		return a, err
	}
	defer done()
	defer context.AfterFunc(ctx, func() { _ = s.c.Close() })()
	if err := s.writeMsg(kindKey, keyMsg{From: m.cfg.Name, Op: uint8(op), Key: raw}); err != nil {
		return a, err
	}
	if err := s.expect(kindKeyDone, 3, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (m *Mesh) serveKey(s *messages, payload []byte, from string) {
	var k keyMsg
	if !m.read(payload, 3, &k, &k.From, from) {
		return
	}
	done := keyDoneMsg{From: m.cfg.Name}
	switch op := keyOp(k.Op); {
	case m.ring == nil:
		done.Error = errNoKeyring.Error()
	case op == keyList:
	case op <= keyRemove:
		if err := m.applyKey(op, k.Key); err != nil {
			done.Error = err.Error()
		}
	default:
		m.refuse(from, "unknown key operation")
		return
	}
	if m.ring != nil {
		done.Keys = m.ring.raw()
	}
	if err := s.writeMsg(kindKeyDone, done); err != nil {
		m.count.drop("stream ended early")
	}
}

// applyKey makes the step here and in the keyring file. The file comes first
// to fail: a member must not lose a key at its restart that it confirmed.
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
