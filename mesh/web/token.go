package web

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"

	"banmesh/internal/safefile"
)

// Bounds of a token file.
const (
	minToken  = 16 // characters: what is shorter can be guessed
	maxToken  = 1024
	maxTokens = 16
)

// tokenFile is a file of tokens, one a line, so that a new one can be brought in
// before the old one goes. It is read again when it changes; while it cannot be
// read, or is open to others, no token counts.
type tokenFile struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	seen   fs.FileInfo // of what was read last; nil where that failed
	hashes [][sha256.Size]byte
	failed string // the last error, told once
}

// load reads the file.
func (f *tokenFile) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read()
}

func (f *tokenFile) read() error {
	f.seen, f.hashes = nil, nil
	info, tokens, err := readTokens(f.path)
	if err != nil {
		return err
	}
	for _, token := range tokens {
		f.hashes = append(f.hashes, sha256.Sum256([]byte(token)))
	}
	f.seen, f.failed = info, ""
	return nil
}

// refresh reads the file again where it is not the one that was read.
func (f *tokenFile) refresh() {
	info, err := os.Stat(f.path)
	if err == nil && f.seen != nil && os.SameFile(info, f.seen) && info.Size() == f.seen.Size() &&
		info.ModTime().Equal(f.seen.ModTime()) && info.Mode() == f.seen.Mode() {
		return
	}
	again := f.seen != nil
	if err := f.read(); err != nil {
		if text := err.Error(); text != f.failed {
			f.failed = text
			f.log.Error("http.token_file: nobody is let in until it is fixed", "error", err)
		}
	} else if again {
		f.log.Info("http.token_file was read again", "tokens", len(f.hashes))
	}
}

// holds reports whether a token is one of the file's. It takes as long whichever
// it is like.
func (f *tokenFile) holds(token string) bool {
	hash := sha256.Sum256([]byte(token))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh()
	found := 0
	for i := range f.hashes {
		found |= subtle.ConstantTimeCompare(hash[:], f.hashes[i][:])
	}
	return found == 1
}

// shown reports whether a request shows one of the file's tokens.
func (f *tokenFile) shown(r *http.Request) bool {
	token, ok := credentials(r)
	return ok && f.holds(token)
}

// keyHeader is where a bouncer of CrowdSec shows its key.
const keyHeader = "X-Api-Key"

// credentials are the token of a request: as a bearer's (RFC 6750), as the
// password of any user (RFC 7617), which a browser asks for, or as a bouncer's key.
func credentials(r *http.Request) (token string, ok bool) {
	if key := r.Header.Get(keyHeader); key != "" {
		return key, true
	}
	const scheme = "bearer "
	if h := r.Header.Get("Authorization"); len(h) > len(scheme) && strings.EqualFold(h[:len(scheme)], scheme) {
		return strings.TrimSpace(h[len(scheme):]), true
	}
	_, token, ok = r.BasicAuth()
	return token, ok
}

// readTokens reads a file of tokens, which nobody but its owner and group can
// access. The FileInfo is of what was read.
func readTokens(path string) (fs.FileInfo, []string, error) {
	info, b, err := safefile.ReadPrivate(path, safefile.OwnerAndGroup, maxTokens*(maxToken+2), "tokens")
	if err != nil {
		return nil, nil, err
	}
	tokens, err := parseTokens(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return info, tokens, nil
}

func parseTokens(b []byte) ([]string, error) {
	var tokens []string
	for line := range bytes.Lines(b) {
		token := string(bytes.TrimSpace(line))
		switch {
		case token == "":
			continue
		case len(token) < minToken || len(token) > maxToken:
			return nil, fmt.Errorf("line %d: a token has %d to %d characters; make one with: openssl rand -hex 32", len(tokens)+1, minToken, maxToken)
		case strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }):
			return nil, fmt.Errorf("line %d: a token has no blanks and only ASCII characters", len(tokens)+1)
		case len(tokens) == maxTokens:
			return nil, fmt.Errorf("more than %d tokens", maxTokens)
		}
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		return nil, errors.New("it holds no token; make one with: openssl rand -hex 32")
	}
	return tokens, nil
}
