package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"banmesh/mesh/control"
)

// standing is about how many bans are kept at a time.
const standing = 3000

// write bans and unbans at one agent through its socket, whether it lives or not.
func (c *crash) write(ctx context.Context, a *agent, rng *rand.Rand) {
	client := control.NewClient(a.socket)
	tick := time.NewTicker(c.pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.gate.RLock()
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		if rng.IntN(2*standing) >= c.ledger.size() {
			c.ban(call, client, a, 1+rng.IntN(5))
		} else {
			c.unban(call, client, a, c.ledger.choose(rng, 1+rng.IntN(5), a.name, false))
		}
		cancel()
		c.gate.RUnlock()
	}
}

func (c *crash) ban(ctx context.Context, client *control.Client, a *agent, n int) {
	start := control.At(time.Now())
	ps := c.ledger.ask(a.name, n, start)
	r, err := client.Ban(ctx, control.BanCall{Prefixes: ps, Jail: crashJail, Start: start, Until: crashUntil(start), Failures: 5})
	c.ledger.answered(ps, err == nil, false)
	if err == nil && r.New != n {
		c.wrong("ban of %d new addresses at %s: %+v", n, a.name, r)
	}
	c.refused("ban", a, err)
}

func (c *crash) unban(ctx context.Context, client *control.Client, a *agent, ps control.Prefixes) {
	if len(ps) == 0 {
		return
	}
	r, err := client.Unban(ctx, control.UnbanCall{Prefixes: ps})
	if err != nil {
		c.ledger.doubtful(len(ps))
		c.refused("unban", a, err)
		return
	}
	for i, l := range r.Lifted {
		if l.Offences > 0 {
			c.ledger.gone(ps[i], false)
		} // else this agent has yet to see the ban, and may lift it then
	}
}

// refused notes an error that no crash explains.
func (c *crash) refused(what string, a *agent, err error) {
	var e *control.Error
	if errors.As(err, &e) && e.Code != control.CodeUnavailable {
		c.wrong("%s at %s: %v", what, a.name, err)
	}
}

// command bans and unbans at all agents by the command line, which puts into the
// spool what a dead agent does not take.
func (c *crash) command(ctx context.Context, rng *rand.Rand) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.gate.RLock()
		a := c.agents[rng.IntN(len(c.agents))]
		if rng.IntN(2) == 0 {
			start := time.Now().Truncate(time.Second)
			ps := c.ledger.ask(a.name, 1, control.At(start))
			code, spooled := c.line(ctx, a, "ban", ps[0].String(), "--jail", crashJail, "--start", fmt.Sprint(start.Unix()), "--for", "1d")
			c.ledger.answered(ps, code == 0, spooled)
		} else {
			for _, p := range c.ledger.choose(rng, 1, a.name, true) {
				if code, spooled := c.line(ctx, a, "unban", p.String()); code == 0 {
					c.ledger.gone(p, spooled)
				} else {
					c.ledger.doubtful(1)
				}
			}
		}
		c.gate.RUnlock()
	}
}

// line runs one command line and says whether its call went into the spool.
func (c *crash) line(ctx context.Context, a *agent, args ...string) (code int, spooled bool) {
	args = append(args, "--socket", a.socket, "--spool", filepath.Join(a.dir, "data", "spool"))
	cmd := exec.CommandContext(ctx, banmesh, args...)
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Run()
	if ctx.Err() != nil {
		return -1, false
	}
	if code = cmd.ProcessState.ExitCode(); code != 0 && code != 1 {
		c.wrong("banmesh %v: %v: %s", args, err, said.String())
	}
	return code, strings.Contains(said.String(), "spool")
}
