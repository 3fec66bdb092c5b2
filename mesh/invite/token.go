package invite

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// tokenPrefix begins every token. Its digit is the version of the rest.
const tokenPrefix = "banmesh1-"

const (
	secretSize = 32
	// Not for security: a forged token names an id that nobody has stored.
	sumSize  = 4 // of the checksum, which only detects typing errors
	maxAddrs = 8
	maxText  = 255 // bytes of an address, a name or a label
)

// errToken is wrapped by the errors of ParseToken.
var errToken = errors.New("not a whole token")

// Token is what the new machine is given. Its text is a secret until it is used or has expired.
type Token struct {
	Addrs []string  // host:port of the member that made it
	Label string    // of the mesh, so that people can tell which one it is
	Name  string    // that the machine must take; "" leaves the choice to it
	Until time.Time // in whole seconds
	keys  keys
	raw   [secretSize]byte
}

// IsToken reports whether s is meant as a token. A member's address is shorter and has no capitals.
func IsToken(s string) bool {
	rest, ok := strings.CutPrefix(s, "banmesh")
	version, rest, found := strings.Cut(rest, "-")
	return ok && found && version != "" && strings.Trim(version, "0123456789") == "" && !strings.ContainsAny(rest, ".:") &&
		(len(s) > 63 || rest != strings.ToLower(rest) || strings.Contains(rest, "_"))
}

// newToken draws the secret. Everything that the token's two ends need follows from it, so the inviter keeps
// no more than that.
func newToken(addrs []string, label, name string, until time.Time) (*Token, error) {
	t := &Token{Addrs: addrs, Label: label, Name: name, Until: time.Unix(until.Unix(), 0)}
	_, _ = rand.Read(t.raw[:]) // never fails, see crypto/rand
	for _, s := range append([]string{label, name}, addrs...) {
		if len(s) > maxText {
			return nil, fmt.Errorf("%.40q… is longer than %d bytes", s, maxText)
		}
	}
	if len(addrs) == 0 || len(addrs) > maxAddrs {
		return nil, fmt.Errorf("a token holds 1 to %d addresses, not %d", maxAddrs, len(addrs))
	}
	t.keys = derive(t.raw)
	return t, nil
}

// String returns the token's text.
func (t *Token) String() string {
	b := bytes.Clone(t.raw[:])
	b = binary.BigEndian.AppendUint64(b, uint64(t.Until.Unix()))
	b = append(b, byte(len(t.Addrs)))
	for _, s := range append(append([]string{}, t.Addrs...), t.Label, t.Name) {
		b = append(append(b, byte(len(s))), s...)
	}
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:sumSize]...))
}

// ID identifies the token where its text must not be shown.
func (t *Token) ID() string { return t.keys.id }

// ParseToken parses a token's text. Line breaks within it, as of a copy out of a mail, do not count.
func ParseToken(s string) (*Token, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		version, _, _ := strings.Cut(s, "-")
		return nil, fmt.Errorf("%w: it begins with %.20q, and this version of banmesh knows %s only", errToken, version+"-", tokenPrefix)
	}
	altered := fmt.Errorf("%w: a character is missing, added or altered; copy it once more, from %s to its end", errToken, tokenPrefix)
	// Strict requires the unused bits after the last byte to be zero, so that every altered character is detected.
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) < secretSize+8+1+sumSize {
		return nil, altered
	}
	body, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:sumSize]) {
		return nil, altered
	}
	t := &Token{}
	copy(t.raw[:], body)
	body = body[secretSize:]
	t.Until = time.Unix(int64(binary.BigEndian.Uint64(body)), 0)
	n := int(body[8])
	body = body[9:]
	if n == 0 || n > maxAddrs {
		return nil, altered
	}
	for range n {
		t.Addrs = append(t.Addrs, "")
	}
	for _, to := range append(pointers(t.Addrs), &t.Label, &t.Name) {
		if len(body) == 0 || len(body) < 1+int(body[0]) || !utf8.Valid(body[1:1+int(body[0])]) {
			return nil, altered
		}
		*to, body = string(body[1:1+int(body[0])]), body[1+int(body[0]):]
	}
	if len(body) > 0 {
		return nil, altered
	}
	t.keys = derive(t.raw)
	return t, nil
}

func pointers(s []string) []*string {
	var out []*string
	for i := range s {
		out = append(out, &s[i])
	}
	return out
}

// keys are derived from a token's secret.
type keys struct {
	id     string // names the invitation in the first message, which is not encrypted
	host   ed25519.PrivateKey
	client ed25519.PrivateKey
}

// derive makes keys for both ends by HKDF (RFC 5869): who has the token can prove it, and can tell that the
// other end has it too. The label has the version.
func derive(secret [secretSize]byte) keys {
	part := func(what string, n int) []byte {
		b, err := hkdf.Key(sha256.New, secret[:], nil, "banmesh invitation 1 "+what, n)
		if err != nil {
			panic(err) // only for lengths that no hash can give
		}
		return b
	}
	return keys{
		// The id is sent in the clear; it is derived like the keys, so that it tells nothing about them.
		id:     hex.EncodeToString(part("id", 16)),
		host:   ed25519.NewKeyFromSeed(part("host", ed25519.SeedSize)),
		client: ed25519.NewKeyFromSeed(part("client", ed25519.SeedSize)),
	}
}
