// Package crowdsec follows the decisions of a CrowdSec local API (LAPI), as its bouncers do
// (https://docs.crowdsec.net/docs/next/local_api/bouncers).
//
// Run asks for everything once, and then for what came and went. The LAPI never repeats what a lost answer held, so after any
// failure Run asks for everything again. Each change goes to Config.Apply, whose error counts as a failure too.
//
// Run is the only goroutine and alone uses the active decisions. Source.mu guards what Trouble reports, and is a leaf.
package crowdsec

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"banmesh/internal/safefile"
	"banmesh/mesh/control"
)

const (
	// answerWithin bounds waiting for an answer; one of 50,000 decisions takes a LAPI seconds.
	answerWithin = time.Minute
	// maxAnswer bounds the size of an answer: a million decisions.
	maxAnswer = 256 << 20
	// retryMost is the longest pause between two tries.
	retryMost = time.Minute
	// longest bounds the duration of a decision: a ban ends before the year 2200.
	longest = 100 * 365 * 24 * time.Hour
	// maxKey bounds the file of the key.
	maxKey = 4096
	// lateWarning is how long a LAPI may be silent before Trouble reports it.
	lateWarning = time.Minute
)

// Decision is one ban that a LAPI made.
type Decision struct {
	Prefix   netip.Prefix
	Until    time.Time
	Scenario string
}

// Change says what came and went. If All is set, New holds everything in force, with the longest decision of each prefix.
type Change struct {
	All  bool
	New  []Decision
	Gone []netip.Prefix // prefixes without any decision left
	Left []Decision     // the longest remaining decision of each prefix that lost one
}

// Config says which LAPI to ask, and whom to tell.
type Config struct {
	URL      string        // of the LAPI, as http://127.0.0.1:8080
	KeyFile  string        // holds the API key on its first line, closed to others; read again for each request
	CAFile   string        // authorities of the LAPI's certificate, PEM; "" uses the system's
	Origins  []string      // of decisions, such as crowdsec and cscli; none means all
	Interval time.Duration // between two requests

	// Apply applies a change. After an error everything is told again later.
	Apply  func(context.Context, Change) error
	Logger *slog.Logger
}

// Source follows one LAPI. It is safe for concurrent use.
type Source struct {
	cfg    Config
	client *http.Client

	active map[int64]Decision // used by Run alone

	mu    sync.Mutex
	since time.Time // since when it fails; zero if it does not
	what  string    // fails
	why   string
}

// New loads the authorities; it asks nothing before Run.
func New(c Config) (*Source, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The key goes to the LAPI alone, whatever HTTP_PROXY says.
	transport.Proxy = nil
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities of CrowdSec's certificate: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &Source{cfg: c, client: &http.Client{
		Transport: transport, Timeout: answerWithin,
		// A redirect would send the key elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Run asks repeatedly until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	all, pause := true, time.Second
	for {
		err := s.poll(ctx, all)
		if ctx.Err() != nil {
			return nil
		}
		s.note(err)
		wait := s.cfg.Interval
		if all = err != nil; all {
			wait, pause = pause, min(2*pause, retryMost)
		} else {
			pause = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Trouble says for how long nothing was received or applied, and why; "" if all is well.
func (s *Source) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() || time.Since(s.since) < lateWarning {
		return ""
	}
	return fmt.Sprintf("CrowdSec at %s %s for %v: %s", s.cfg.URL, s.what, time.Since(s.since).Round(time.Second), s.why)
}

// note logs the beginning, each other reason and the end of trouble, not each try.
func (s *Source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && !s.since.IsZero():
		s.cfg.Logger.Info("CrowdSec gives decisions again", "url", s.cfg.URL)
		s.since, s.what, s.why = time.Time{}, "", ""
	case err != nil && s.since.IsZero():
		s.since = time.Now()
		fallthrough
	case err != nil && s.why != err.Error():
		s.what, s.why = "gives no decisions", err.Error()
		if refused := (*notTaken)(nil); errors.As(err, &refused) {
			s.what = "gives decisions that are not all taken"
		}
		s.cfg.Logger.Warn("CrowdSec "+s.what+"; its bans stay until they expire", "url", s.cfg.URL, "error", err)
	}
}

// decision is one decision in the LAPI's JSON (models.Decision of crowdsecurity/crowdsec).
type decision struct {
	ID        int64  `json:"id"`
	Type      string `json:"type"`
	Scope     string `json:"scope"`
	Value     string `json:"value"`
	Duration  string `json:"duration"` // what is left of it; negative if it is over
	Scenario  string `json:"scenario"`
	Simulated bool   `json:"simulated"`
}

// ban parses a decision; ok is false if it is not a ban of addresses: a captcha, a country, a simulation.
func (d *decision) ban(now time.Time) (_ Decision, ok bool, err error) {
	if d.Simulated || !strings.EqualFold(d.Type, "ban") || !strings.EqualFold(d.Scope, "ip") && !strings.EqualFold(d.Scope, "range") {
		return Decision{}, false, nil
	}
	p, err := parse(d.Value)
	if err != nil {
		return Decision{}, false, err
	}
	left, err := time.ParseDuration(d.Duration)
	if err != nil {
		return Decision{}, false, err
	}
	return Decision{p, now.Add(min(left, longest)), d.Scenario}, true, nil
}

// parse clears host bits: what CrowdSec decided cannot be asked about.
func parse(value string) (netip.Prefix, error) {
	p, err := control.ParsePrefix(value)
	var host *control.HostBitsError
	if errors.As(err, &host) {
		return host.Masked, nil
	}
	return p, err
}

// poll asks once and applies what came and went.
func (s *Source) poll(ctx context.Context, all bool) error {
	var answer struct{ New, Deleted []decision }
	if err := s.get(ctx, all, &answer); err != nil {
		return err
	}
	now := time.Now()
	if all {
		s.active = make(map[int64]Decision)
	}
	came, went := s.take(answer.New, answer.Deleted, now)
	longest := s.longestOfEach(came, went, now)
	c := Change{All: all}
	for _, id := range came {
		// Of everything, only the longest of each prefix. Of what is new, all: Apply skips what an earlier ban outlasts.
		if d, ok := s.active[id]; ok && (!all || longest[d.Prefix] == id) {
			c.New = append(c.New, d)
		}
	}
	told := make(map[netip.Prefix]bool)
	for _, p := range went {
		if told[p] {
			continue
		}
		told[p] = true
		// Another decision of the prefix goes on, perhaps to an earlier end.
		if d, ok := s.active[longest[p]]; ok {
			c.Left = append(c.Left, d)
		} else {
			c.Gone = append(c.Gone, p)
		}
	}
	// Nothing came or went. Everything, even nothing, is told: bans of before may have to go.
	if !c.All && len(c.New)+len(c.Gone)+len(c.Left) == 0 {
		return nil
	}
	if err := s.cfg.Apply(ctx, c); err != nil {
		return &notTaken{err}
	}
	return nil
}

// take brings the active decisions up to date with an answer. It returns the ids of the bans that came, and the prefixes
// that lost a decision, in the answer's order. An id that both came and went has gone.
func (s *Source) take(added, deleted []decision, now time.Time) (came []int64, went []netip.Prefix) {
	for i := range added {
		d, ok, err := added[i].ban(now)
		if err != nil {
			s.cfg.Logger.Warn("a decision of CrowdSec's cannot be read", "error", err)
		}
		if ok && d.Until.After(now) {
			s.active[added[i].ID] = d
			came = append(came, added[i].ID)
		}
	}
	for i := range deleted {
		d, ok, err := deleted[i].ban(now)
		if err != nil || !ok {
			continue
		}
		delete(s.active, deleted[i].ID)
		went = append(went, d.Prefix)
	}
	return came, went
}

// longestOfEach returns, for each prefix that an answer names, the active decision that ends last; between equal ends the lowest id,
// so that the choice does not depend on the order of a map. A prefix without an active decision has none. It drops what has
// expired on the way.
func (s *Source) longestOfEach(came []int64, went []netip.Prefix, now time.Time) map[netip.Prefix]int64 {
	longest := make(map[netip.Prefix]int64)
	for _, id := range came {
		if d, ok := s.active[id]; ok {
			longest[d.Prefix] = 0
		}
	}
	for _, p := range went {
		longest[p] = 0
	}
	for id, d := range s.active {
		if !d.Until.After(now) {
			delete(s.active, id)
			continue
		}
		best, named := longest[d.Prefix]
		if until := s.active[best].Until; named && (d.Until.After(until) || d.Until.Equal(until) && id < best) {
			longest[d.Prefix] = id
		}
	}
	return longest
}

// notTaken is an error of Apply, not of the LAPI.
type notTaken struct{ error }

func (e *notTaken) Unwrap() error { return e.error }

// get asks the stream endpoint of the local API as its bouncers do: everything the first time (startup), then
// what changed since this key last asked.
func (s *Source) get(ctx context.Context, all bool, answer any) error {
	key, err := s.key()
	if err != nil {
		return err
	}
	// With dedup, the LAPI names only the longest decision about an address, whatever its origin, and does not report one
	// that goes while another is left.
	q := url.Values{"scopes": {"ip,range"}, "dedup": {"false"}}
	if all {
		q.Set("startup", "true")
	}
	if len(s.cfg.Origins) > 0 {
		q.Set("origins", strings.Join(s.cfg.Origins, ","))
	}
	// CrowdSec's clients write the commas unescaped.
	target := strings.TrimSuffix(s.cfg.URL, "/") + "/v1/decisions/stream?" + strings.ReplaceAll(q.Encode(), "%2C", ",")
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-Api-Key", key)
	r.Header.Set("User-Agent", "banmesh/v1") // the LAPI requires NAME/VERSION
	reply, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	switch reply.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("it refuses the key of %s: make one with `cscli bouncers add banmesh`", s.cfg.KeyFile)
	default:
		return fmt.Errorf("it answers %s", reply.Status)
	}
	body := &io.LimitedReader{R: reply.Body, N: maxAnswer}
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		if body.N == 0 {
			return errors.New("its answer is too long")
		}
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	return nil
}

// key reads the file each time, so that a new key works without a restart.
func (s *Source) key() (string, error) {
	_, b, err := safefile.ReadPrivate(s.cfg.KeyFile, safefile.OwnerAndGroup, maxKey, "CrowdSec's API key")
	if err != nil {
		return "", fmt.Errorf("read CrowdSec's API key: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return "", fmt.Errorf("%s is empty: it holds CrowdSec's API key", s.cfg.KeyFile)
	}
	return string(line), nil
}
