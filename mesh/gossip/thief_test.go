package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// thief has the key of the mesh and is no member.
type thief struct{ *rogue }

// call makes one call about keys to a member, in the name of another.
func (r *thief) call(nd *node, as string, op keyOp, name string, raw []byte) (keyReply, error) {
	r.fl.t.Helper()
	s := &messages{c: dialAs(r.fl.t, r.host, nd.addr.String(), r.ring), stall: 30 * time.Second, left: 1 << 20}
	defer s.c.Close()
	half, err := newKeyHalf()
	if err != nil {
		return keyReply{}, err
	}
	if err := s.writeMsg(kindKeyCall, keyCall{From: as, Op: uint8(op), Name: name, Share: half.share()}); err != nil {
		return keyReply{}, err
	}
	var a keyReply
	if err := s.expect(kindKeyReply, 4, &a); err != nil || op != keyInstall || a.Error != "" {
		return a, err
	}
	sealed, err := half.seal(a.Share, raw)
	if err != nil {
		return a, err
	}
	if err := s.writeMsg(kindKeyGift, keyGift{Sealed: sealed}); err != nil {
		return a, err
	}
	a = keyReply{}
	return a, s.expect(kindKeyReply, 4, &a)
}

// TestOneWithTheKeyCannotPartTheMesh: a key of its own for each router, used and the
// others removed, was a matter of 83 ms.
func TestOneWithTheKeyCannotPartTheMesh(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second) // all have answered all
		r := &thief{newRogue(fl)}
		for i, nd := range fl.nodes {
			own := bytes.Repeat([]byte{byte(50 + i)}, 32)
			if a, err := r.call(nd, "r001", keyInstall, KeyName(own), own); err != nil || a.Error != "" {
				t.Fatalf("install at %s: %+v, %v: the test proves nothing", nd.name, a, err)
			}
			if a, err := r.call(nd, "r001", keyUse, KeyName(own), nil); err != nil || a.Error == "" {
				t.Errorf("%s uses a key that nobody else has: %+v, %v", nd.name, a, err)
			}
			if a, err := r.call(nd, "r001", keyRemove, KeyName(testKey), nil); err != nil || a.Error == "" {
				t.Errorf("%s forgets the key in use: %+v, %v", nd.name, a, err)
			}
			if w := nd.mesh.KeyNews(); !strings.Contains(w, "install of "+KeyName(own)+" by r001 at "+r.host.Addr().Addr().String()) {
				t.Errorf("%s says of the key that somebody added: %q", nd.name, w)
			}
		}
		for i, nd := range fl.nodes {
			if names := nd.mesh.ring.names(); names[0] != KeyName(testKey) {
				t.Errorf("%s seals with %s", nd.name, names[0])
			}
			nd.ban(base64.StdEncoding.EncodeToString([]byte{byte(i)}))
		}
		fl.wait(5*time.Second, "bans everywhere", fl.all(3))
	})
}

// TestMadeUpMembersCannotPartTheMesh: made-up members at addresses of their own, more than
// the honest ones, vouch for a key that no other honest member has.
func TestMadeUpMembersCannotPartTheMesh(t *testing.T) {
	simulate(t, 7, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second) // all have answered all
		r := &thief{newRogue(fl)}
		for i, nd := range fl.nodes[:3] {
			own := bytes.Repeat([]byte{byte(50 + i)}, 32)
			if a, err := r.call(nd, "r006", keyInstall, KeyName(own), own); err != nil || a.Error != "" {
				t.Fatalf("install at %s: %+v, %v: the test proves nothing", nd.name, a, err)
			}
			rings := []*keyring{r.ring}
			for _, liar := range fl.nodes[3:] {
				rings = append(rings, liar.mesh.ring)
			}
			for _, ring := range rings {
				if err := ring.install(own); err != nil {
					t.Fatal(err)
				}
			}
			if a, err := r.call(nd, "r006", keyUse, KeyName(own), nil); err != nil || a.Error == "" {
				t.Errorf("%s uses a key that no other honest member has: %+v, %v", nd.name, a, err)
			}
			for _, one := range append([]*node{nd}, fl.nodes[3:]...) {
				if err := one.mesh.ring.use(own); err != nil {
					t.Fatal(err)
				}
			}
			if a, err := r.call(nd, "r006", keyRemove, KeyName(testKey), nil); err != nil || a.Error == "" {
				t.Errorf("%s forgets the key that the honest members use: %+v, %v", nd.name, a, err)
			}
			if err := nd.mesh.ring.use(testKey); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// One that knows members and has heard none of them answer, just started or cut off,
// was a majority of its own.
func TestAMemberThatHearsNobodyChangesNoKey(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		nd := fl.nodes[1]
		time.Sleep(5 * time.Second) // they have answered each other
		fl.stop(fl.nodes[0])
		fl.stop(nd)
		if err := fl.start(nd, nil); err != nil {
			t.Fatal(err)
		}
		r := &thief{newRogue(fl)}
		own := bytes.Repeat([]byte{50}, 32)
		if a, err := r.call(nd, "r000", keyInstall, KeyName(own), own); err != nil || a.Error != "" {
			t.Fatalf("install: %+v, %v: the test proves nothing", a, err)
		}
		if n := len(*nd.mesh.table.proven.Load()); n != 0 {
			t.Fatalf("%d members have answered: the test proves nothing", n)
		}
		if a, err := r.call(nd, "r000", keyUse, KeyName(own), nil); err != nil || a.Error == "" {
			t.Errorf("it uses a key on its own word: %+v, %v", a, err)
		}
		if names := nd.mesh.ring.names(); names[0] != KeyName(testKey) {
			t.Errorf("it seals with %s", names[0])
		}
	})
}

// TestAnEavesdropperWithTheOldKeyDoesNotLearnTheNewOne: a thief of the old key reads
// all that passes while the key is changed, and asks for what it can.
func TestAnEavesdropperWithTheOldKeyDoesNotLearnTheNewOne(t *testing.T) {
	// What a listener with the old key sees of a stream is what is in the messages.
	giver, err := newKeyHalf()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := newKeyHalf()
	if err != nil {
		t.Fatal(err)
	}
	fresh := bytes.Repeat([]byte{42}, 32)
	sealed, err := giver.seal(taker.share(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	seen := [][]byte{
		encode(kindKeyCall, keyCall{From: "a", Op: uint8(keyInstall), Name: KeyName(fresh), Share: giver.share()}),
		encode(kindKeyReply, keyReply{From: "b", Names: []string{KeyName(testKey)}, Share: taker.share()}),
		encode(kindKeyGift, keyGift{Sealed: sealed}),
	}
	for _, b := range seen {
		if bytes.Contains(b, fresh[:8]) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(fresh)[:8])) {
			t.Errorf("the key passes as it is: %x", b)
		}
	}
	if raw, err := taker.open(giver.share(), sealed); err != nil || !bytes.Equal(raw, fresh) {
		t.Fatalf("the one it is for opens %x, %v", raw, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"an agreement of its own": func() ([]byte, error) {
			own, err := newKeyHalf()
			if err != nil {
				return nil, err
			}
			return own.open(giver.share(), sealed)
		},
		"the low-order point": func() ([]byte, error) { return taker.open(make([]byte, 32), sealed) },
		"half a share":        func() ([]byte, error) { return taker.open(giver.share()[:16], sealed) },
		"no gift":             func() ([]byte, error) { return taker.open(giver.share(), nil) },
	} {
		if raw, err := open(); err == nil {
			t.Errorf("%s opens %x", name, raw)
		}
	}

	simulate(t, 3, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second)
		r := &thief{newRogue(fl)}
		text := NewKey()
		raw, _ := ParseKey(text)
		ctx, m := context.Background(), fl.nodes[0].mesh
		if err := m.InstallKey(ctx, text); err != nil {
			t.Fatal(err)
		}
		a, err := r.call(fl.nodes[1], "r002", keyList, "", nil)
		if err != nil || !slices.Contains(a.Names, KeyName(raw)) {
			t.Fatalf("the list of keys is %+v, %v", a, err)
		}
		if b := encode(kindKeyReply, a); bytes.Contains(b, raw[:8]) || strings.Contains(string(b), text[:10]) {
			t.Error("the new key is answered to one who has the old one")
		}
		if err := m.UseKey(ctx, KeyName(raw), false); err != nil {
			t.Fatal(err)
		}
		if err := m.RemoveKey(ctx, KeyName(testKey), false); err != nil {
			t.Fatal(err)
		}
		c, err := r.host.DialTimeout(fl.nodes[1].addr.String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		s, err := dialStream(c, r.ring, "", chanFrames, time.Second, &counters{})
		if err == nil {
			msg := &messages{c: s, stall: time.Second, left: 1 << 20}
			if err = msg.writeMsg(kindKeyCall, keyCall{From: "r002"}); err == nil {
				err = msg.expect(kindKeyReply, 4, &a)
			}
		}
		if err == nil {
			t.Error("the old key still opens streams")
		}
		_ = c.Close()
	})
}

func TestAKeyringThatIsChangedByHandAlone(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		nd := fl.nodes[1]
		fl.stop(nd)
		if err := fl.start(nd, func(c *Config) { c.LocalKeyring = true }); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "all alive", fl.whole)
		err := fl.nodes[0].mesh.InstallKey(context.Background(), NewKey())
		if err == nil || !strings.Contains(err.Error(), "remote_keyring") || errors.Is(err, errOldKeys) {
			t.Errorf("install: %v, want it refused with the key of the configuration that says so", err)
		}
		if n := len(nd.mesh.ring.all()); n != 1 {
			t.Errorf("it holds %d keys", n)
		}
	})
}
