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
	minToken  = 16 // shorter ones can be guessed
	maxToken  = 1024
	maxTokens = 16
)

// tokenFile is a file of tokens, one per line, so that a new token can be introduced before the old one goes. It is read
// again when it changes. While it cannot be read, or is open to others, no token counts.
type tokenFile struct {
	path string
	log  *slog.Logger
	stat func(string) (fs.FileInfo, error) // os.Stat; nil the same
	look look

	mu     sync.Mutex
	seen   fs.FileInfo // of the last read; nil if that failed
	hashes [][sha256.Size]byte
	failed string // the last error, logged once
}

// load reads the file.
func (f *tokenFile) load() error {
	info, tokens, err := readTokens(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.hashes = nil, nil
	if err != nil {
		return err
	}
	for _, token := range tokens {
		f.hashes = append(f.hashes, sha256.Sum256([]byte(token)))
	}
	f.seen, f.failed = info, ""
	return nil
}

// refresh reads the file again if it has changed. Only f.look calls it: without the lock, because the disk may hang.
func (f *tokenFile) refresh() {
	stat := f.stat
	if stat == nil {
		stat = os.Stat
	}
	info, err := stat(f.path)
	f.mu.Lock()
	seen := f.seen
	f.mu.Unlock()
	if err == nil && seen != nil && os.SameFile(info, seen) && info.Size() == seen.Size() &&
		info.ModTime().Equal(seen.ModTime()) && info.Mode() == seen.Mode() {
		return
	}
	err = f.load()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if text := err.Error(); text != f.failed {
			f.failed = text
			f.log.Error("http.token_file: nobody is let in until it is fixed", "error", err)
		}
	} else if seen != nil {
		f.log.Info("http.token_file was read again", "tokens", len(f.hashes))
	}
}

// trouble says why no token counts, "" if all is well.
func (f *tokenFile) trouble() string {
	f.look.take(f.refresh)
	if since := f.look.hangs(); since > 0 {
		return fmt.Sprintf("http.token_file: the disk of %s has not answered for %v; the tokens that were read before count (dmesg)", f.path, since)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == "" {
		return ""
	}
	return "http.token_file: nobody is let in until it is fixed: " + f.failed
}

// holds reports whether a token is in the file. It takes constant time, so that the time does not tell how much of a guess is
// right.
func (f *tokenFile) holds(token string) bool {
	hash := sha256.Sum256([]byte(token))
	f.look.take(f.refresh)
	f.mu.Lock()
	defer f.mu.Unlock()
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

// keyHeader is the header with the key of a CrowdSec bouncer.
const keyHeader = "X-Api-Key"

// credentials returns the token of a request: as a bearer token (RFC 6750), as the password of any user (RFC 7617), which
// browsers ask for, or as a bouncer's key.
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

// readTokens reads a file of tokens that only its owner and group can access. The FileInfo is that of the file it read.
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

// parseTokens names lines and never shows a token in an error. Several are for changing one without a gap.
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
