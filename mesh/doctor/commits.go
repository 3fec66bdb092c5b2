package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"banmesh/internal/shell"
	"banmesh/mesh/conductor"
	"banmesh/mesh/control"
)

// commits looks at how the commits fare, by the leader's word.
func (r *report) commits(now time.Time, s *control.Status) {
	c := &s.Commit
	if c.State == "off" && s.Leader == nil {
		return // a mesh without a conductor
	}
	last := "nothing was committed yet"
	if c.LastCommit != 0 {
		last = fmt.Sprintf("the last commit was %v ago", now.Sub(c.LastCommit.Time()).Round(time.Second))
	}
	detail := c.Detail
	if c.LastError != nil {
		detail = *c.LastError
	}
	pending := fmt.Sprintf("%d to add, %d to remove", c.PendingAdd, c.PendingRemove)
	switch {
	case s.Leader == nil:
		why := s.Why
		if why == "" {
			why = "no router is able"
		}
		r.add(Serious, "no router leads: "+why, "Nothing reaches the conductor; "+last+".", "banmesh status")
	case c.State == "failing":
		r.add(Serious, fmt.Sprintf("commits fail: %s", detail), fmt.Sprintf("What is banned does not reach the conductor (%s); %s.", pending, last), "banmesh status at "+*s.Leader)
	case c.State == "waiting":
		r.add(Warning, fmt.Sprintf("commits wait: %s", detail), fmt.Sprintf("%s; %s.", pending, last), "commit or discard what another administrator has left in the candidate")
	default:
		r.ok("%s commits; %s, %s", *s.Leader, last, pending)
	}
	if s.Frozen {
		r.add(Warning, "frozen by "+s.FrozenBy, "Nothing is added at the conductor or enforced.", "banmesh thaw")
	}
	if c.Held > 0 {
		r.add(Warning, fmt.Sprintf("%d changes are held until an operator confirms them", c.Held), "What was lifted stays blocked at the conductor, and what was banned is let through there: so many at once, or so wide, needs somebody to look.", "banmesh diff, then banmesh commit --force")
	}
}

// conductor looks at the conductor as an agent that leads would.
func (r *report) conductor(ctx context.Context, p Patient) {
	for _, addr := range p.Conductors {
		// With a single node the reading below says it, and better.
		if err := try(ctx, p.dial, hostPort(addr)); err != nil && len(p.Conductors) > 1 {
			r.add(Warning, fmt.Sprintf("the conductor's node %s cannot be reached: %s", addr, short(err)),
				"When the other one fails, nothing is committed.", "open TCP from this router to it; on it: systemctl status 128T")
		}
	}
	running, err := p.Conductor.Read(ctx)
	switch {
	// A tenant that holds everybody was read all the same; it is a finding of its own below.
	case err == nil, errors.Is(err, conductor.ErrWideOpen):
	case errors.Is(err, conductor.ErrHostKey):
		r.add(Serious, text(err), "Somebody else may be answering, or the conductor was installed anew: nothing is committed.",
			p.trust())
		return
	case errors.Is(err, conductor.ErrLogin):
		r.add(Serious, text(err), "Nothing is committed from here; six refused logins lock the account for half an hour.",
			p.login())
		return
	case errors.Is(err, conductor.ErrUnreachable):
		r.add(Serious, text(err), "Nothing is committed from here.",
			"open TCP from this router to the conductor; up to release 5.2 commit.driver is netconf (port 830), from 5.3 on rest")
		return
	default:
		r.add(Serious, "the conductor: "+text(err), "Nothing is committed from here.", "banmesh diff")
		return
	}
	r.ok("the login at the conductor %s works, its host key is known", running.Conductor)
	if err != nil {
		r.add(Serious, "the tenant "+p.Tenant+" holds everybody (0.0.0.0/0 or ::/0)", "Every service that denies it is closed, and banmesh commits nothing.",
			"delete that address from the tenant at the conductor")
	}
	if !running.Exists {
		r.add(Note, "the tenant "+p.Tenant+" is not there yet", "The first commit makes it; services can deny it from then on.", "banmesh commit")
	} else {
		r.ok("the tenant %s holds %d addresses", p.Tenant, len(running.Addresses))
	}
	r.denied(ctx, p, running.Exists)
}

// denied looks for the other half of the tenant: committing addresses does nothing by itself, a service must
// deny them.
func (r *report) denied(ctx context.Context, p Patient, exists bool) {
	services, err := p.Conductor.Denied(ctx)
	fix := fmt.Sprintf("at the conductor: configure authority service NAME access-policy %s permission deny; then commit (see examples/conductor/service.txt)", p.Tenant)
	switch {
	case err != nil:
		r.add(Note, "whether a service denies the tenant was not looked at: "+text(err), "A tenant that no service denies blocks nobody.",
			"at the conductor: show config running authority service")
	case len(services) == 0 && exists:
		r.add(Serious, "no service denies the tenant "+p.Tenant, "What is committed blocks nobody.", fix)
	case len(services) == 0:
		r.add(Warning, "no service denies the tenant "+p.Tenant, "What will be committed blocks nobody.", fix)
	default:
		r.ok("the tenant is denied by %s", strings.Join(services, ", "))
	}
}

func first(s []string) string {
	if len(s) == 0 {
		return "ADDRESS"
	}
	return s[0]
}

// hostPort is where a conductor answers that is named as host:port or as URL.
func hostPort(addr string) string {
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" {
		return addr
	}
	// The port of https, as the driver has it.
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}

// text is an error in one line of bounded length.
func text(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// overREST reports whether the conductor is asked over REST: then it is named by URLs.
func (p *Patient) overREST() bool { return strings.HasPrefix(first(p.Conductors), "https://") }

// trust is the command that shows and pins whom to believe.
func (p *Patient) trust() string {
	if p.overREST() {
		return fmt.Sprintf("banmesh conductor trust %s, compare it at the conductor, and put what it shows into commit.pin_sha256; a certificate that has expired must be renewed there", shell.Quote(first(p.Conductors)))
	}
	return fmt.Sprintf("banmesh conductor trust %s --known-hosts %s", shell.Quote(first(p.Conductors)), shell.Quote(p.KnownHosts))
}

// login is what makes the conductor accept this router.
func (p *Patient) login() string {
	if p.overREST() {
		return fmt.Sprintf("make the account %s at the conductor have the password in commit.password_file, or renew the token in commit.token_file", p.User)
	}
	return fmt.Sprintf("put this router's public key into /home/%s/.ssh/netconf_authorized_keys on each conductor node", p.User)
}
