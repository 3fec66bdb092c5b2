package fail2ban

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Right after `systemctl restart fail2ban` it does not answer, then has no jails,
// then one after the other.
func TestAFail2banThatJustStartsIsWaitedFor(t *testing.T) {
	const two = "Status\n|- Number of jail:\t2\n`- Jail list:\tsshd, web"
	for name, c := range map[string]struct {
		answers []string // one each look; "" is not running, the last one stays
		looks   int      // 0: until the bound
		waits   bool
		want    error
	}{
		"it runs":          {answers: []string{two}, looks: 1},
		"it starts":        {answers: []string{"", "", "Jail list:\t", "Jail list:\tsshd", two, two}, looks: 6, waits: true},
		"it does not run":  {answers: []string{""}, waits: true, want: ErrNotRunning},
		"it has no jail":   {answers: []string{"Jail list:\t"}, waits: true},
		"it may not be so": {answers: []string{"denied"}, looks: 1, want: ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks, waits := 0, 0
				client := NewClientWith(ClientConfig{}, func(context.Context, ...string) (string, error) {
					answer := c.answers[min(looks, len(c.answers)-1)]
					looks++
					switch answer {
					case "":
						return "", ErrNotRunning
					case "denied":
						return "", ErrDenied
					}
					return answer, nil
				})
				began := time.Now()
				err := Await(t.Context(), client, func() { waits++ })
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if c.looks != 0 && looks != c.looks || c.looks == 0 && time.Since(began) < awaitFor {
					t.Errorf("looked %d times in %v, want %d", looks, time.Since(began), c.looks)
				}
				if time.Since(began) > awaitFor+time.Second {
					t.Errorf("waited %v", time.Since(began))
				}
				if (waits == 1) != c.waits {
					t.Errorf("said %d times that it waits", waits)
				}
			})
		})
	}
}
