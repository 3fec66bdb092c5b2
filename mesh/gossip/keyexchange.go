package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"
)

// keyListTime bounds a request for the names of keys, because other requests wait for it.
const keyListTime = 3 * time.Second

// keyHalf is one side of a key agreement (X25519, RFC 7748), made for one transfer of a key and then forgotten. It is
// authenticated only by the stream that carries it. It protects against a passive listener.
type keyHalf struct{ private *ecdh.PrivateKey }

// newKeyHalf draws a key for one transfer: a gossip key that leaks later does not tell which new key was sent
// under it.
func newKeyHalf() (*keyHalf, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	return &keyHalf{private}, nil
}

func (h *keyHalf) share() []byte { return h.private.PublicKey().Bytes() }

// cipher is derived by both sides. The nonce is constant because each cipher seals one message only.
func (h *keyHalf) cipher(theirs []byte, giver bool) (cipher.AEAD, error) {
	public, err := ecdh.X25519().NewPublicKey(theirs)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	secret, err := h.private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	salt := append(append([]byte(nil), h.share()...), theirs...)
	if !giver {
		salt = append(append([]byte(nil), theirs...), h.share()...)
	}
	key, err := hkdf.Key(sha256.New, secret, salt, "banmesh new gossip key", 32)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	return cipher.NewGCM(block)
}

// seal and open use a nonce of zeros: the cipher's key is made for this one message and never used again.
func (h *keyHalf) seal(theirs []byte, raw []byte) ([]byte, error) {
	aead, err := h.cipher(theirs, true)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, make([]byte, nonceSize), raw, nil), nil
}

func (h *keyHalf) open(theirs, sealed []byte) ([]byte, error) {
	aead, err := h.cipher(theirs, false)
	if err != nil {
		return nil, err
	}
	raw, err := aead.Open(nil, make([]byte, nonceSize), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("the new key cannot be opened: %w", err)
	}
	return raw, nil
}
