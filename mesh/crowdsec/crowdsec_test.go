package crowdsec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lapi stands in for a local API: it answers /v1/decisions/stream as the one of
// crowdsecurity/crowdsec does, to who shows its key.
type lapi struct {
	mu      sync.Mutex
	all     []decision // in force
	came    []decision // since the last answer
	went    []decision
	down    bool
	queries []string
}

func (l *lapi) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queries = append(l.queries, r.URL.RawQuery)
	switch {
	case l.down:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case r.Header.Get("X-Api-Key") != "a-key":
		w.WriteHeader(http.StatusForbidden)
		return
	}
	answer := map[string]any{"new": l.came, "deleted": l.went}
	if r.URL.Query().Get("startup") == "true" {
		answer["new"] = l.all
	}
	l.came, l.went = nil, nil
	_ = json.NewEncoder(w).Encode(answer)
}

func ban(id int64, value, left string) decision {
	scope := "Ip"
	if strings.Contains(value, "/") {
		scope = "Range"
	}
	return decision{ID: id, Type: "ban", Scope: scope, Value: value, Duration: left, Scenario: "crowdsecurity/ssh-bf"}
}

// follow makes a source of the LAPI that writes what it is told, a line each.
func follow(t *testing.T, l *lapi, fail *error) (*Source, *[]string) {
	t.Helper()
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	told := new([]string)
	s, err := New(Config{
		URL: server.URL + "/", KeyFile: key, Origins: []string{"crowdsec", "cscli"}, Interval: time.Second, Logger: slog.New(slog.DiscardHandler),
		Apply: func(_ context.Context, c Change) error {
			if *fail != nil {
				return *fail
			}
			var words []string
			for _, d := range c.New {
				words = append(words, fmt.Sprintf("+%v %v", d.Prefix, time.Until(d.Until).Round(time.Minute)))
			}
			for _, p := range c.Gone {
				words = append(words, "-"+p.String())
			}
			for _, d := range c.Left {
				words = append(words, fmt.Sprintf("=%v %v", d.Prefix, time.Until(d.Until).Round(time.Minute)))
			}
			*told = append(*told, strings.TrimSpace(map[bool]string{true: "all "}[c.All]+strings.Join(words, " ")))
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, told
}

func TestDecisionsComeAndGo(t *testing.T) {
	captcha, country, simulated := ban(7, "203.0.113.9", "1h"), ban(8, "FR", "1h"), ban(9, "203.0.113.10", "1h")
	captcha.Type, country.Scope, simulated.Simulated = "captcha", "Country", true
	l := &lapi{all: []decision{
		ban(1, "203.0.113.7", "3h59m59.5s"), ban(2, "198.51.100.9/24", "1h0m0s"), ban(3, "2001:db8::7", "2h"), ban(4, "203.0.113.8", "-1s"),
		captcha, country, simulated,
	}}
	var fail error
	s, told := follow(t, l, &fail)
	step := func(all bool) {
		t.Helper()
		if err := s.poll(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	step(true)
	step(false) // nothing new: nothing told

	l.came, l.went = []decision{ban(11, "203.0.113.11", "1h")}, []decision{ban(3, "2001:db8::7", "-1s")}
	step(false)
	// Another decision about an address goes on where one is taken back.
	l.came = []decision{ban(12, "203.0.113.7", "5h"), ban(13, "203.0.113.7", "1h")}
	step(false)
	l.went = []decision{ban(12, "203.0.113.7", "-1s")}
	step(false)
	l.went = []decision{ban(13, "203.0.113.7", "-1s"), ban(1, "203.0.113.7", "-1s"), ban(1, "203.0.113.7", "-1s")}
	step(false)
	// Of all, the longest about an address is told.
	l.all = []decision{ban(14, "203.0.113.7", "1h"), ban(15, "203.0.113.7", "2h"), ban(16, "203.0.113.7", "30m")}
	l.went = []decision{ban(12, "203.0.113.7", "-1s")}
	step(true)
	want := []string{
		"all +203.0.113.7/32 4h0m0s +198.51.100.0/24 1h0m0s +2001:db8::7/128 2h0m0s",
		"+203.0.113.11/32 1h0m0s -2001:db8::7/128",
		"+203.0.113.7/32 5h0m0s +203.0.113.7/32 1h0m0s",
		"=203.0.113.7/32 4h0m0s",
		"-203.0.113.7/32",
		"all +203.0.113.7/32 2h0m0s =203.0.113.7/32 2h0m0s",
	}
	if !slices.Equal(*told, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(*told, "\n"), strings.Join(want, "\n"))
	}
	if want := "dedup=false&origins=crowdsec,cscli&scopes=ip,range&startup=true"; l.queries[0] != want {
		t.Errorf("asked %s, want %s", l.queries[0], want)
	}
	if strings.Contains(l.queries[1], "startup") {
		t.Errorf("asked %s for what is new", l.queries[1])
	}
}

// An answer that was lost, or that could not be taken, is not given again: the next
// question is for everything.
func TestAFailureHasEverythingToldAgain(t *testing.T) {
	l := &lapi{all: []decision{ban(1, "203.0.113.7", "1h")}}
	fail := errors.New("the disk is full")
	s, told := follow(t, l, &fail)
	asked := make(chan string, 100)
	apply := s.cfg.Apply
	s.cfg.Apply = func(ctx context.Context, c Change) error {
		err := apply(ctx, c)
		asked <- fmt.Sprint(c.All, err)
		fail = nil
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if got := <-asked; got != "true the disk is full" {
		t.Errorf("first: %s", got)
	}
	if got := <-asked; got != "true <nil>" {
		t.Errorf("after a failure: %s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(*told) != 1 || s.Trouble() != "" {
		t.Errorf("told %v, trouble %q", *told, s.Trouble())
	}
}

func TestTroubleIsToldAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Source{cfg: Config{URL: "http://192.0.2.1:8080", Logger: slog.New(slog.DiscardHandler)}}
		s.note(errors.New("refused"))
		time.Sleep(59 * time.Second)
		if text := s.Trouble(); text != "" {
			t.Errorf("too early: %s", text)
		}
		time.Sleep(2 * time.Second)
		s.note(errors.New("refused"))
		if text := s.Trouble(); text != "CrowdSec at http://192.0.2.1:8080 gives no decisions for 1m1s: refused" {
			t.Errorf("trouble %q", text)
		}
		s.note(&notTaken{errors.New("too many")})
		if text := s.Trouble(); text != "CrowdSec at http://192.0.2.1:8080 gives decisions that are not all taken for 1m1s: too many" {
			t.Errorf("trouble %q", text)
		}
		s.note(nil)
		if text := s.Trouble(); text != "" {
			t.Errorf("after an answer: %s", text)
		}
	})
}

func TestWhatTheLAPIRefusesIsSaid(t *testing.T) {
	l := &lapi{}
	var fail error
	s, _ := follow(t, l, &fail)
	write := func(text string) {
		if err := os.WriteFile(s.cfg.KeyFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{"another\n": "it refuses the key of", "\n": "is empty", "a-key": ""} {
		write(text)
		switch err := s.poll(t.Context(), true); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("key %q: %v, want %q", text, err, want)
		}
	}
	write("a-key")
	l.down = true
	if err := s.poll(t.Context(), true); err == nil || err.Error() != "it answers 500 Internal Server Error" {
		t.Errorf("down: %v", err)
	}
	l.down = false
	if err := os.Chmod(s.cfg.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.poll(t.Context(), true); err == nil || !strings.Contains(err.Error(), "others can read") {
		t.Errorf("a key that everybody can read: %v", err)
	}
}

func TestOddDecisionsAreRead(t *testing.T) {
	for value, want := range map[string]string{
		"2001:db8::1%eth0": "", "0.0.0.0/0": "", "FR": "",
		"::ffff:192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.0/120": "192.0.2.0/24", "192.0.2.7/24": "192.0.2.0/24",
	} {
		if p, err := parse(value); (err == nil) != (want != "") || err == nil && p.String() != want {
			t.Errorf("%s: %v, %v, want %q", value, p, err, want)
		}
	}
	d := ban(1, "192.0.2.1", "2000000h") // until after the year 2200, when no ban can end
	if got, ok, err := d.ban(time.Now()); !ok || err != nil || got.Until.Year() >= 2200 {
		t.Errorf("a long one: %v, %v, %v", got, ok, err)
	}
}
