package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"banmesh/internal/shell"
	"banmesh/mesh/control"
)

const (
	// dialTime bounds a try to reach a member or a conductor.
	dialTime = 3 * time.Second

	// silent is for how long nothing may come from a living member by UDP: each
	// is probed, or probes, many times as often.
	silent = 2 * time.Minute

	// young is the age below which an agent need not have seen everything.
	young = 5 * time.Minute

	// skewed is a clock difference that makes bans end at the wrong time.
	skewed   = 2 * time.Second
	disagree = time.Minute
)

// agent asks the local agent, and looks at the mesh with its eyes and its own.
func (r *report) agent(ctx context.Context, p Patient) *control.Status {
	status, err := p.Agent.Status(ctx)
	if err != nil {
		r.add(Serious, err.Error(), "Nothing is shared, and nothing else of the mesh can be looked at.", "systemctl start banmesh; journalctl -u banmesh")
		return nil
	}
	r.ok("the agent %s answers, version %s", status.Name, status.Version)
	members, err := p.Agent.Members(ctx)
	if err != nil {
		r.add(Serious, err.Error(), "The members cannot be looked at.", "banmesh members")
		return &status
	}
	r.members(ctx, p, &status, members)
	return &status
}

// members compares what the agent says of the others with what this machine can reach itself. UDP cannot be tried from outside the
// mesh; that nothing has ever come by it shows in the agent's counters, once it has run long enough to have heard something.
func (r *report) members(ctx context.Context, p Patient, s *control.Status, members []control.Member) {
	var others []control.Member
	here := "of gossip.bind"
	for _, m := range members {
		if _, port, err := net.SplitHostPort(m.Addr); m.Self && err == nil {
			here = port
		}
		// A member that left said so, and is expected to be away.
		if !m.Self && m.State != "left" {
			others = append(others, m)
		}
	}
	if len(others) == 0 {
		r.add(Warning, "no other member is known", "A ban made here protects nobody else.", "banmesh join ADDRESS:7946")
		return
	}
	for _, d := range s.Doubts {
		r.add(Serious, d.What, "Members that do not reach each other share no bans.", d.Fix+"; then systemctl restart banmesh there")
	}
	// All at once: members that are cut off would cost three seconds each.
	open := dialAll(ctx, p.dial, others)
	var each report
	for i, m := range others {
		each.member(p.Now, here, m, open[i])
	}
	r.fewMembers(each.findings)
	if counters := s.Replicate; counters != nil && time.Duration(s.UptimeS)*time.Second > young {
		for _, way := range []struct{ key, proto string }{{"packets_received", "UDP"}, {"streams_taken", "TCP"}} {
			// A version that does not count this is not accused of hearing nothing.
			if n, told := counters.Counters[way.key]; told && n == 0 {
				r.add(Serious, fmt.Sprintf("no member has ever reached this router by %s", way.proto),
					"What the others ban comes late or never.", "open "+way.proto+" of gossip.bind inbound in this router's firewall")
			}
		}
	}
}

// dialAll tries the members' TCP ports, all at once; nil is open.
func dialAll(ctx context.Context, dial dialFunc, members []control.Member) []error {
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { errs[i] = try(ctx, dial, m.Addr) })
	}
	all.Wait()
	return errs
}

// try opens a connection and closes it again. Nothing is sent: an agent drops such a stream without a word.
func try(ctx context.Context, dial dialFunc, addr string) error {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := dial(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
	}
	return err
}

// member looks at one; here is the port of this router.
func (r *report) member(now time.Time, here string, m control.Member, tcp error) {
	_, port, _ := net.SplitHostPort(m.Addr)
	who := fmt.Sprintf("%s (%s)", m.Name, m.Addr)
	switch {
	// The kernel accepts for a process that is stopped or hangs, so an open port alone is no sign of life.
	case m.State == "failed" && tcp == nil && m.NoTCP != "":
		r.add(Serious, who+" does not answer, though its TCP port is open: its agent is frozen or hangs", "Its router gets no bans.",
			"on it: systemctl restart banmesh; journalctl -u banmesh says what it did last")
	case m.State == "failed" && tcp == nil:
		r.add(Serious, who+" does not answer by UDP, and does by TCP", "It is taken for dead: it gets bans late, and cannot lead.",
			"open UDP "+port+" both ways between the routers")
	case m.State == "failed":
		r.add(Serious, who+" does not answer: "+short(tcp), "Its router gets no bans.",
			"on it: systemctl status banmesh; then open UDP and TCP "+port+" both ways; if it is gone for good, banmesh forget "+shell.Argument(m.Name))
	case tcp != nil:
		r.add(Serious, who+" is alive, and its TCP port cannot be reached: "+short(tcp),
			"After a loss or a restart the bans are brought by TCP: the two stay apart then.", "open TCP "+port+" both ways between the routers")
	case m.Mute == "from":
		r.add(Serious, who+" is alive, and no UDP from it arrives here", "Bans come late, by TCP only.",
			"open UDP "+here+" inbound on this router and outbound on "+m.Name)
	case m.Mute == "to":
		r.add(Serious, who+" is alive, and no UDP from here arrives there", "Bans go there late, by TCP only.",
			"open UDP "+port+" outbound on this router and inbound on "+m.Name)
	case m.Seen != 0 && now.Sub(m.Seen.Time()) > silent:
		r.add(Serious, fmt.Sprintf("%s is alive, and nothing came from it for %v", who, now.Sub(m.Seen.Time()).Round(time.Second)),
			"Bans come late, or not at all.", "open UDP and TCP "+port+" both ways between the routers")
	case m.Unknown:
		r.add(Warning, who+" is alive, and it is not known whether it agrees", "Nothing was heard of its bans lately.",
			"banmesh members; if it stays, open UDP and TCP "+port+" both ways")
	case !m.InSync && m.Stuck != "":
		// 1372 bytes of data make a packet of 1400, which tunnels with less room drop.
		host, _, _ := net.SplitHostPort(m.Addr)
		r.add(Serious, who+" is alive, and not in sync: "+m.Stuck, "Its disk hangs, it refuses more, or large packets are lost on the way, as in a tunnel.",
			"on it: banmesh doctor; here: ping -c 3 -M do -s 1372 "+host+", and if only smaller ones are answered, ip link set dev INTERFACE mtu 1280 on both")
	case !m.InSync:
		r.add(Warning, who+" is alive, and not in sync", "It usually resolves itself within seconds; where it does not, TCP one way is closed, or others write in a router's name (its status says so).",
			"banmesh members; if it stays, open TCP "+port+" both ways")
	default:
		r.ok("%s answers by UDP and TCP, and agrees", who)
	}
	if skew := time.Duration(m.SkewMS) * time.Millisecond; m.State == "alive" && skew.Abs() > skewed {
		r.add(Warning, fmt.Sprintf("the clock of %s is %v from this one", m.Name, skew.Round(100*time.Millisecond)), "Bans end early or late there.",
			"on the router that is wrong: chronyc makestep, or systemctl restart systemd-timesyncd")
	}
}

// further passes on what the agent itself warns of and nothing here examines: each says
// what helps.
func (r *report) further(s *control.Status) {
	for _, text := range s.Further {
		r.add(Warning, text, "The agent itself warns of it.", "")
	}
}

// clock judges by the members first, which works without any time service; s is nil if no agent answers.
func (r *report) clock(p Patient, s *control.Status) {
	const fix = "chronyc makestep, or systemctl restart systemd-timesyncd; then timedatectl"
	if s != nil {
		switch skew := time.Duration(s.SkewMS) * time.Millisecond; {
		case skew.Abs() > disagree:
			r.add(Serious, fmt.Sprintf("this router's clock is %v from the others'", skew.Round(time.Second)),
				"It forgets nothing, and what its programs say of times is corrected until it is set.", fix)
		case skew.Abs() > skewed:
			r.add(Warning, fmt.Sprintf("this router's clock is %v from the others'", skew.Round(100*time.Millisecond)), "Bans end early or late.", fix)
		default:
			r.ok("this router's clock agrees with the others'")
		}
	}
	if p.Synchronized == nil {
		return
	}
	switch synchronized, known := p.Synchronized(); {
	case !known:
	case synchronized:
		r.ok("a time service keeps this router's clock")
	default:
		r.add(Warning, "no time service keeps this router's clock", "It drifts, and bans end at the wrong time.",
			"apt-get install chrony, or timedatectl set-ntp true")
	}
}

// short keeps the end of a network error, which says what happened.
func short(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		s = s[i+2:]
	}
	return s
}
