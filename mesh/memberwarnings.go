package mesh

import (
	"fmt"
	"strings"
	"time"

	"banmesh/mesh/gossip"
)

// memberWarnings says what is wrong between this router, whose gossip is at own,
// and the others. Each is named with the port that it listens at, which need not be
// this one's.
func memberWarnings(own string, members []gossip.Member, now time.Time) (w []string) {
	warn := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	here := gossipPort(own)
	var failed, behind, unknown []string
	for _, m := range members {
		who := fmt.Sprintf("%s (%s)", m.Name, m.Addr)
		switch {
		case m.State == gossip.Failed:
			failed = append(failed, who)
		case m.State != gossip.Alive || m.Self:
		case m.Agrees == gossip.Differs:
			behind = append(behind, who)
		case m.Agrees == gossip.Unknown && now.Sub(m.Since) > unknownWarning:
			unknown = append(unknown, who)
		}
		switch m.Mute {
		case gossip.MuteFrom:
			warn("no UDP arrives here from %s, though TCP does: bans travel by TCP, later; open UDP %s inbound here and outbound there", who, here)
		case gossip.MuteTo:
			warn("no UDP of this router arrives at %s, though TCP does: bans travel by TCP, later; open UDP %s outbound here and inbound there", who, gossipPort(m.Addr))
		}
		if m.State == gossip.Alive && m.Skew.Abs() > skewWarning {
			warn("the clock of %s is %v away from this one: bans may end early or late there; check its time service (chronyc tracking)", m.Name, m.Skew.Round(100*time.Millisecond))
		}
	}
	if len(failed) > 0 {
		warn("no answer from %s: their routers get no bans until they are back; check `systemctl status banmesh` there and that UDP and TCP are open to these ports, or take one that is not coming back off the books: `banmesh forget NAME`", strings.Join(failed, ", "))
	}
	if len(behind) > 0 {
		warn("not in sync yet with %s: it resolves itself within seconds; if it stays, check that TCP is open to there and to %s here", strings.Join(behind, ", "), here)
	}
	if len(unknown) > 0 {
		warn("not known whether in sync with %s: no word of it lately; check that UDP and TCP are open to there and to %s here", strings.Join(unknown, ", "), here)
	}
	return w
}

func gossipPort(bind string) string { return bind[strings.LastIndexByte(bind, ':')+1:] }
