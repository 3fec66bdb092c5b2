package rest

import (
	"bytes"
	"fmt"

	"banmesh/internal/safefile"
	"banmesh/mesh/conductor"
)

// maxSecret bounds a password or token; the device's tokens are signed and about 700 bytes long.
const maxSecret = 64 << 10

// readCredential reads a password or the conductor's own private key: an agent on the conductor can log in with the key, as
// the vendor's tools do.
func readCredential(file string) (field, value string, err error) {
	b, err := readPrivate(file)
	if err == nil && bytes.HasPrefix(b, []byte("-----BEGIN ")) {
		return "local", string(b), nil
	}
	value, err = readSecret(file)
	return "password", value, err
}

// readSecret reads the first line of a file that only its owner can read.
func readSecret(file string) (string, error) {
	b, err := readPrivate(file)
	if err != nil {
		return "", err
	}
	fail := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%w: %s %w", conductor.ErrSecret, file, fmt.Errorf(format, args...))
	}
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(line) == 0:
		return fail("is empty; it has to hold the secret on its first line")
	case len(bytes.TrimSpace(rest)) > 0:
		return fail("holds more than one line")
	case bytes.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return fail("holds control characters")
	}
	return string(line), nil
}

// readPrivate reads a file that only its owner can read.
func readPrivate(file string) ([]byte, error) {
	_, b, err := safefile.ReadPrivate(file, safefile.OwnerOnly, maxSecret, "a secret")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", conductor.ErrSecret, err)
	}
	return b, nil
}
