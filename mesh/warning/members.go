// Package warning says in plain words, from what an agent holds and hears, what is wrong
// and what to do about it: the lines of `banmesh status` that need no more than the facts.
//
// Each function takes the facts of one kind (members, lifts, limits, records, fail2bans) and returns finished sentences,
// with the command or the setting that helps. They decide nothing and remember nothing; only Lifts keeps an hour of counts.
// A holder of the gossip key can make up members and what they do, so no kind may take more than a few lines (Few), and
// Lifts keeps a bounded number of names. Names in commands are quoted for a shell.
package warning

import (
	"fmt"
	"strings"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/shell"
	"banmesh/mesh/gossip"
)

// Members says what is wrong between this router, whose gossip is at own,
// and the others. Each is named with the port that it listens at, which need not be
// this one's.
func Members(own string, members []gossip.Member, now time.Time) (w []string) {
	warn := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	here := gossipPort(own)
	var failed, behind, unknown []string
	var stuck, muteFrom, muteTo, noStream, skewed []string
	add := func(to *[]string, format string, args ...any) { *to = append(*to, fmt.Sprintf(format, args...)) }
	name := ""      // of the last that failed
	others := false // one of them answers
	for _, m := range members {
		who := fmt.Sprintf("%s (%s)", m.Name, m.Addr)
		others = others || m.State == gossip.Alive && !m.Self
		switch {
		case m.State == gossip.Failed:
			failed, name = append(failed, who), m.Name
		// A member that left said so, and nothing is wrong with that.
		case m.State != gossip.Alive || m.Self:
		case m.Agrees == gossip.Differs && m.Stuck != nil:
			add(&stuck, "not in sync with %s: %v: its disk hangs, or it refuses more (`banmesh status` there says so), or large packets are lost on the way, as in a tunnel: %s", who, m.Stuck, largePackets(m.Addr))
		case m.Agrees == gossip.Differs:
			behind = append(behind, who)
		// A member that has just come has had no time to agree.
		case m.Agrees == gossip.Unknown && now.Sub(m.Since) > unknownWarning:
			unknown = append(unknown, who)
		}
		switch m.Mute {
		case gossip.MuteFrom:
			add(&muteFrom, "no UDP arrives here from %s, though TCP does: bans travel by TCP, later; open UDP %s inbound here and outbound there", who, here)
		case gossip.MuteTo:
			add(&muteTo, "no UDP of this router arrives at %s, though TCP does: bans travel by TCP, later; open UDP %s outbound here and inbound there", who, gossipPort(m.Addr))
		}
		if m.State == gossip.Alive && m.NoStream != nil {
			add(&noStream, "no stream to %s can be opened (%v): what is lost by UDP, and long lists, do not get there; open TCP %s outbound here and inbound there", who, m.NoStream, gossipPort(m.Addr))
		}
		if m.State == gossip.Alive && m.Skew.Abs() > Skew {
			add(&skewed, "the clock of %s is %v away from this one: bans may end early or late there; check its time service (chronyc tracking)", m.Name, m.Skew.Round(100*time.Millisecond))
		}
	}
	for _, like := range []struct {
		told []string
		rest string
	}{
		{stuck, "members are not in sync, and exchanges with them stall: `banmesh members` names them"},
		{muteFrom, "members are like that: no UDP arrives here from them, though TCP does"},
		{muteTo, "members are like that: no UDP of this router arrives at them, though TCP does"},
		{noStream, "members are like that: no stream to them can be opened"},
		{skewed, "members have a clock that is away from this one: `banmesh members` shows them"},
	} {
		w = append(w, Few(like.told, like.rest)...)
	}
	switch {
	// Several at once and nobody left: the common cause is here and not at each of them.
	case len(failed) > 1 && !others:
		warn("no other member answers (%s): most likely this router is cut off, gets no bans and its own reach nobody; look at its own network, and that UDP and TCP %s are open here", excerpt.Names(failed), here)
	case len(failed) > 0:
		warn("no answer from %s: no bans get there until this ends; check `systemctl status banmesh` there and that UDP and TCP are open to %s; if it is not coming back, `banmesh forget %s`",
			excerpt.Names(failed), plural(len(failed), "that port", "these ports"), plural(len(failed), shell.Argument(name), "NAME"))
	}
	if len(behind) > 0 {
		warn("not in sync yet with %s: usually it resolves itself within seconds; if it stays, check that TCP is open to there and to %s here, and whether `banmesh status` on any router says that records bear its name and are not its own: routers then differ until those expire", excerpt.Names(behind), here)
	}
	if len(unknown) > 0 {
		warn("not known whether in sync with %s: no word of it lately; check that UDP and TCP are open to there and to %s here", excerpt.Names(unknown), here)
	}
	return w
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// largePackets is how to find out whether a path to a member loses large packets,
// and what helps.
func largePackets(addr string) string {
	host := addr[:max(0, strings.LastIndexByte(addr, ':'))]
	return fmt.Sprintf("if `ping -c 3 -M do -s 1372 %s` has no answer and a plain ping has, set a smaller mtu on the interface", strings.Trim(host, "[]"))
}

func gossipPort(bind string) string { return bind[strings.LastIndexByte(bind, ':')+1:] }

// Skew is the clock difference from which status warns.
const Skew = 2 * time.Second

// unknownWarning is how long a member may be alive before status warns that it is
// not known whether it agrees.
const unknownWarning = 30 * time.Second
