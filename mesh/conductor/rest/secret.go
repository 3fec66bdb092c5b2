package rest

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"banmesh/mesh/conductor"
)

// maxSecret bounds a password or token; the device's tokens are signed and about 700 bytes long.
const maxSecret = 64 << 10

// readCredential reads a password, or the conductor's own key: an agent on the conductor itself can log in by that, as the
// vendor's tools do.
func readCredential(file string) (field, value string, err error) {
	b, err := readPrivate(file)
	if err == nil && bytes.HasPrefix(b, []byte("-----BEGIN ")) {
		return "local", string(b), nil
	}
	value, err = readSecret(file)
	return "password", value, err
}

// readSecret reads the first line of a file that nobody but its owner can read.
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

// readPrivate reads a file that nobody but its owner can read.
func readPrivate(file string) ([]byte, error) {
	fail := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("%w: %s %w", conductor.ErrSecret, file, fmt.Errorf(format, args...))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", conductor.ErrSecret, err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return fail("cannot be examined: %w", err)
	case !st.Mode().IsRegular():
		return fail("is not a regular file")
	case st.Mode().Perm()&0o077 != 0:
		return fail("has mode %#o, others can read it; run: chmod 600 %s", st.Mode().Perm(), file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return fail("cannot be read: %w", err)
	case len(b) > maxSecret:
		return fail("has more than %d bytes, too many for a secret", maxSecret)
	}
	return b, nil
}
