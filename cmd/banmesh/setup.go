package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/internal/excerpt"
	"banmesh/internal/shell"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/gossip"
	"banmesh/mesh/install"
	"banmesh/mesh/invite"
	"banmesh/mesh/login"
)

// setup is what init and join by a token have in common.
type setup struct {
	config, name, bind, advertise, label string
	noFail2ban, noEnforce                bool

	m *install.Machine
}

// settleTime bounds the wait for an agent that was started.
const settleTime = 30 * time.Second

func (s *setup) configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Destination: &s.config, Usage: "the agent's configuration `FILE`; default " + defaultConfig}
}

// flags are those that init and join share: what only the operator of this machine can know.
func (s *setup) flags(c *console) []cli.Flag {
	return []cli.Flag{
		s.configFlag(),
		&cli.StringFlag{Name: "name", Destination: &s.name, Usage: "stable `NAME` of this machine in the mesh; default the host name"},
		&cli.StringFlag{Name: "bind", Destination: &s.bind, Usage: "gossip on `IP:PORT`, UDP and TCP; default 0.0.0.0:7946"},
		&cli.StringFlag{Name: "advertise", Destination: &s.advertise, Usage: "address at which the others reach it, if it is a different one, `IP[:PORT]`"},
		&cli.BoolFlag{Name: "no-fail2ban", Destination: &s.noFail2ban, Usage: "leave the local fail2ban as it is"},
		&cli.BoolFlag{Name: "no-enforce", Destination: &s.noEnforce, Usage: "do not drop banned traffic in this machine's kernel"},
		c.yesFlag(),
	}
}

// given is the first of the flags that was given.
func (s *setup) given(cc *cli.Context) string {
	for _, name := range []string{"config", "name", "bind", "advertise", "no-fail2ban", "no-enforce", "yes"} {
		if cc.IsSet(name) {
			return name
		}
	}
	return ""
}

// initCommand and join differ in where the key and the settings come from; what they put in place is the
// same, see package install.
func initCommand(c *console) *cli.Command {
	var s setup
	return &cli.Command{
		Name: "init", Category: "Mesh", Usage: "make this machine the first of a mesh",
		Description: "As root, on a machine that has the package: makes the mesh's key, writes the configuration, has fail2ban share what it bans, and\n" +
			"starts the agent. Existing files stay. It says what it does, is safe to run again, and banmesh leave --uninstall undoes it.\n" +
			"Then use banmesh invite to let the others in.\n\n" +
			"Example:\n   banmesh init\n   banmesh init --name mail1 --advertise 192.0.2.1",
		Flags: append(s.flags(c), &cli.StringFlag{Name: "label", Destination: &s.label, Usage: "`NAME` of the mesh, where several share a network"}),
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			return s.init(cc, c)
		},
	}
}

// open is the beginning of init, join and leave --uninstall. Everything that is done is told as it is done,
// since a failure in between leaves a part in place.
func (s *setup) open(c *console) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("this writes in /etc and starts a service: run it as root")
	}
	if s.config == "" {
		s.config = c.config
	}
	s.m, err = install.Open(s.config, func(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) })
	return err
}

// own are the settings that are this machine's alone.
func (s *setup) own(c *console, name string) []config.Setting {
	set := []config.Setting{{Key: "name", Value: name}}
	for _, o := range []config.Setting{{Key: "gossip.bind", Value: s.bind}, {Key: "gossip.advertise", Value: s.advertise}, {Key: "gossip.label", Value: s.label}} {
		if o.Value != "" {
			set = append(set, o)
		}
	}
	if !s.noEnforce {
		if err := s.m.CanDrop(); err == nil {
			set = append(set, config.Setting{Key: "enforce.driver", Value: "nftables"})
		} else {
			c.warn("note: this machine's kernel cannot drop what is banned elsewhere, enforce.driver stays as it is: %s", oneLine(err))
		}
	}
	if from := s.logins(c); len(from) > 0 {
		set = append(set, config.Setting{Key: "never_ban", Value: from})
	}
	return set
}

// logins are the addresses that people are logged in from: nobody locks himself out.
func (s *setup) logins(c *console) (out []string) {
	add := func(a netip.Addr) {
		if a = a.Unmap(); a.IsValid() && !a.IsLoopback() && !s.m.File.Exempted(a) {
			if p := netip.PrefixFrom(a.WithZone(""), a.BitLen()).String(); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	add(login.Shell(c.getenv))
	// Without them an address less is exempt, which is no reason to put nothing in place.
	// Bounded below, since each becomes an entry of the configuration.
	sessions, _ := login.Sessions(c.utmp)
	for _, l := range sessions[:min(len(sessions), 16)] {
		add(l.From)
	}
	return out
}

// nameOf is the name that this machine takes.
func (s *setup) nameOf(wanted string) (string, error) {
	inFile, host := s.m.File.Name, config.Default().Name
	name := wanted
	if name == "" {
		name = s.name
	}
	switch {
	case name == "":
		name = inFile
	// An operator wrote this one: it is neither the host's, which stands for none, nor the package's. Configure
	// would leave it in the file, and the machine would have another name than the mesh was told.
	case inFile != host && inFile != name && !s.m.File.NameByPackage:
		return "", fmt.Errorf("%s says name: %s, and not %s: change it there, or leave out the other name", s.m.Config, inFile, name)
	}
	// The inviter lets in the name of the token, whatever is asked for.
	if wanted != "" && s.name != "" && s.name != wanted {
		return "", fmt.Errorf("the token is for the name %s, not for %s", wanted, s.name)
	}
	return name, nil
}

// already says why a machine that was put in place is not to be put in place otherwise.
func (s *setup) already() error {
	r := s.m.Record
	return fmt.Errorf("this machine was put in place already, as %s, by `banmesh %s` on %s: `banmesh leave --uninstall` takes that back first; nothing was changed", r.Name, r.By, r.At.Format(time.DateOnly))
}

// init makes this machine the first of a mesh, with a key of its own. Given again after an interruption it goes on where it had
// come to: the record of package install says what is done already.
func (s *setup) init(cc *cli.Context, c *console) error {
	if err := s.open(c); err != nil {
		return err
	}
	if r := s.m.Record; r != nil && r.By != "init" {
		return s.already()
	}
	name, err := s.nameOf("")
	if err != nil {
		return err
	}
	if err := s.m.Begin(install.Record{By: "init", At: c.now().UTC()}); err != nil {
		return err
	}
	err = s.finish(cc.Context, c, func() error {
		// A keyring that is there already stays, so a second run does not change the key.
		return s.m.Configure(install.Want{Keyring: []string{gossip.NewKey()}, Settings: s.own(c, name)})
	})
	if err == nil {
		fmt.Fprintln(c.out, "next: banmesh invite, and on another machine the command that it prints")
	}
	return err
}

// join lets this machine into a mesh by a token. The request carries a random number for this machine, which is written down
// first: the inviter lets the same machine in again if the answer was lost, and nobody else with the token that it used.
// A refusal takes back what was begun, so that a mistyped token leaves nothing behind.
func (s *setup) join(cc *cli.Context, c *console, given string) error {
	if given == "-" {
		b, err := io.ReadAll(io.LimitReader(c.in, 4096))
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		given = string(b)
	}
	// Before anything is looked at or begun, so that a mistyped token costs nothing.
	token, err := invite.ParseToken(given)
	if err != nil {
		return err
	}
	if err := s.open(c); err != nil {
		return err
	}
	r := s.m.Record
	if r != nil && (r.By != "join" || r.Configured && r.Token != token.ID()) {
		return s.already()
	}
	// The token is used up by now, and what is left to do needs none.
	if r != nil && r.Configured {
		return s.finish(cc.Context, c, func() error { return nil })
	}
	name, err := s.nameOf(token.Name)
	if err != nil {
		return err
	}
	// The inviter refuses a machine that has keys of another mesh: they would stay in its keyring.
	keys, err := s.m.KeyNames()
	if err != nil {
		return err
	}
	fresh := r == nil
	if fresh {
		r = &install.Record{By: "join", At: c.now().UTC()}
	}
	if r.Token != token.ID() {
		r.Token, r.Machine = token.ID(), rand.Text()
	}
	if err := s.m.Begin(*r); err != nil {
		return err
	}
	w, err := invite.Ask(cc.Context, token, invite.Request{Name: name, Machine: r.Machine, Program: thisBuild().Version, Keys: keys})
	if err != nil {
		// Where the answer was lost the inviter may have let this machine in: the record with its number must
		// stay, or the token lets nobody in any more. Otherwise what was begun is taken back in silence, as it was
		// begun.
		if fresh && !errors.Is(err, invite.ErrLost) {
			s.m.Say = func(string, ...any) {}
			if uerr := s.m.Uninstall(cc.Context, func() error { return nil }); uerr != nil {
				return fmt.Errorf("%w; and %w", err, uerr)
			}
			return fmt.Errorf("%w; nothing was changed here", err)
		}
		return err
	}
	mesh := "the mesh"
	if token.Label != "" {
		mesh = "the mesh " + control.Show(token.Label)
	}
	fmt.Fprintf(c.out, "%s lets this machine into %s as %s\n", control.Show(w.Inviter), mesh, control.Show(w.Name))
	return s.finish(cc.Context, c, func() error { return s.m.Configure(s.wanted(c, w)) })
}

// maxJoined bounds the members that an inviter names: one that answers tells of all the others.
const maxJoined = 64

// wanted is what the answer of the inviter comes to here.
func (s *setup) wanted(c *console, w *invite.Welcome) install.Want {
	want := install.Want{Keyring: w.Keyring, KnownHosts: w.KnownHosts, Settings: append(s.own(c, w.Name), config.Setting{Key: "join", Value: w.Join[:min(len(w.Join), maxJoined)]})}
	driver, _ := w.Settings["commit.driver"].(string)
	if _, pinned := w.Settings["commit.pin_sha256"]; driver == "rest" && !pinned {
		// A section commit that trusts no certificate would keep the agent from starting, so all of it is left
		// out.
		c.warn("note: the mesh's conductor is known by a file (commit.ca_file), which is not sent: copy it and the section commit from %s for this machine to commit as well", control.Show(w.Inviter))
		for key := range w.Settings {
			if strings.HasPrefix(key, "commit.") {
				delete(w.Settings, key)
			}
		}
		driver = ""
	}
	// Secrets are each machine's own: the inviter sends neither them nor where it keeps them.
	dir := s.config[:strings.LastIndexByte(s.config, '/')+1]
	switch driver {
	case "netconf":
		want.Settings = append(want.Settings, config.Setting{Key: "commit.key", Value: dir + "conductor_key"})
	case "rest":
		want.Settings = append(want.Settings, config.Setting{Key: "commit.password_file", Value: dir + "conductor_password"})
	}
	for _, key := range slices.Sorted(maps.Keys(w.Settings)) {
		// A compromised inviter could otherwise set what this machine runs or whom it believes, such as
		// fail2ban.client. A later version may also know more common keys than this one.
		if !config.Common(key) {
			c.warn("note: %s sent the setting %s, which one machine does not take from another: it was not applied", control.Show(w.Inviter), control.Show(key))
			continue
		}
		want.Settings = append(want.Settings, config.Setting{Key: key, Value: w.Settings[key]})
	}
	// Keys that are added to a section stand in it in the opposite order.
	slices.SortStableFunc(want.Settings, func(a, b config.Setting) int {
		if !strings.Contains(a.Key, ".") || !strings.Contains(b.Key, ".") {
			return 0
		}
		return strings.Compare(b.Key, a.Key)
	})
	return want
}

// finish does all that follows the decision, from whichever point it had come to.
func (s *setup) finish(ctx context.Context, c *console, configure func() error) error {
	err := s.steps(ctx, c, configure)
	var status exitStatus
	if err != nil && !errors.As(err, &status) {
		return fmt.Errorf("%w; what is done already is said above: give the same command again to go on, or take it back with `banmesh leave --uninstall`", err)
	}
	return err
}

// steps are those that every set-up has in common. The order matters: fail2ban is hooked once there is an agent or
// its spool to take the bans, and what fail2ban held before is taken in only after the first exchange with the mesh, which
// knows which of these bans were lifted.
func (s *setup) steps(ctx context.Context, c *console, configure func() error) error {
	if err := configure(); err != nil {
		return err
	}
	// Before the agent starts, which reads the key for the conductor.
	if err := s.conductor(c); err != nil {
		return err
	}
	c.socket = s.m.File.Socket
	began := c.now()
	runs := true
	switch err := s.m.Start(ctx); {
	// As in a container: an agent that somebody else runs there is used all the same.
	case errors.Is(err, install.ErrNoService):
		c.warn("note: %v; start the agent with: banmesh agent --config %s", err, shell.Quote(s.m.Config))
		runs = s.answers(ctx, c)
	case err != nil:
		return fmt.Errorf("start the agent: %w; see journalctl -u banmesh", err)
	}
	hooked := s.m.Fail2banHooked()
	if s.m.HasFail2ban() && !s.noFail2ban && (hooked || c.wants("fail2ban is installed here: share what its jails ban, and restart it")) {
		// Before the wait: what it bans meanwhile waits in the spool.
		if err := s.m.HookFail2ban(ctx); err != nil {
			return err
		}
		hooked = true
	}
	if !runs {
		// There is nobody to wait for. What fail2ban bans meanwhile waits in the spool, and what it banned
		// before has to be imported later.
		return s.m.Done()
	}
	st, err := s.settled(ctx, c, s.m.Record.By == "join")
	if err != nil {
		return err
	}
	if hooked && s.m.HasFail2ban() {
		if err := c.takeIn(ctx, s.client(), s.m.File.Share.ExceptJails, ""); err != nil {
			// The router is protected without these bans, so this does not fail the set-up.
			c.warn("note: what fail2ban has banned already is not shared yet: %s; later: banmesh fail2ban import", oneLine(err))
		}
	}
	s.tell(c, st, c.now().Sub(began), hooked)
	return s.m.Done()
}

// client asks the fail2ban of the configuration as it was written a moment ago.
func (s *setup) client() *fail2ban.Client {
	f := s.m.File.Fail2ban
	return fail2ban.NewClient(fail2ban.ClientConfig{Command: f.Client, Socket: f.Socket})
}

// conductor makes the login of this machine where the mesh commits, and says what is left to do.
func (s *setup) conductor(c *console) error {
	k := &s.m.File.Commit
	// The key is this machine's alone, so that one router's login can be taken away without the others'.
	public, err := s.m.ConductorKey()
	if err != nil {
		return fmt.Errorf("the key for the conductor: %w", err)
	}
	switch {
	case public != "":
		fmt.Fprintf(c.out, "this machine's own key for the conductor; until this line is in /home/%s/.ssh/netconf_authorized_keys on each conductor node, others commit:\n%s\n", k.User, public)
	case k.Driver == "rest" && k.PasswordFile != "":
		if _, err := os.Stat(k.PasswordFile); err != nil {
			fmt.Fprintf(c.out, "the conductor's password is not sent; until it is here, others commit: %s, then type the password of %s at %s, Enter and Ctrl-D\n", installLine(&s.m.File.Config, k.PasswordFile), k.User, strings.Join(k.Conductors, " and "))
		} else if s.m.Record.By == "join" {
			c.warn("note: the password in %s is there from before; the agent shows it to %s, as the mesh's settings say: if that is not its conductor, `banmesh leave --uninstall` and remove it", k.PasswordFile, strings.Join(k.Conductors, " and "))
		}
	}
	return nil
}

// answers reports whether an agent runs all the same.
func (s *setup) answers(ctx context.Context, c *console) bool {
	err := c.ask(ctx, time.Second, func(ctx context.Context, cl *control.Client) error { _, err := cl.Status(ctx); return err })
	return err == nil
}

// settled waits until the agent answers, has met others where there are some and agrees with them, and drops what it should.
func (s *setup) settled(ctx context.Context, c *console, others bool) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	var st control.Status
	var err error
	for {
		// One question that hangs must not use up the whole wait.
		asking, done := context.WithTimeout(ctx, 2*time.Second)
		st, err = c.client().Status(asking)
		done()
		e := st.Enforce
		switch {
		case err != nil:
		case others && (st.Members.Alive < 2 || !st.InSync):
		// Frozen, it adds nothing for as long as that takes; failing, it says why.
		case e != nil && (e.State == "off" || e.State == "waiting" || e.State == "on" && (e.Behind == nil || *e.Behind > 0)):
		default:
			return st, nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return st, fmt.Errorf("the agent does not answer after %v: journalctl -u banmesh says why", settleTime)
			}
			return st, fmt.Errorf("not in sync, or not dropping what is banned, after %v; it goes on trying: %s", settleTime, strings.Join(st.Warnings, "; "))
		case <-pause.C:
		}
	}
}

// tell says what is protected now.
func (s *setup) tell(c *console, st control.Status, took time.Duration, hooked bool) {
	if n := st.Members.Alive - 1; n > 0 {
		fmt.Fprintf(c.out, "in sync with %s after %.1f s\n", excerpt.Count(n, "other member", "other members"), took.Seconds())
	} else {
		fmt.Fprintf(c.out, "the agent runs\n")
	}
	now := []string{}
	switch e := st.Enforce; {
	case e == nil:
		now = append(now, "nothing is dropped in this machine's kernel (enforce.driver is none)")
	case e.Behind == nil:
		now = append(now, "what is banned is not dropped here yet: "+e.Detail)
	default:
		now = append(now, fmt.Sprintf("%s dropped in this machine's kernel", excerpt.Count(st.Bans.Effective, "banned address or network is", "banned addresses and networks are")))
	}
	switch {
	case hooked:
		now = append(now, "what fail2ban bans here is dropped on all members")
	case s.m.HasFail2ban():
		now = append(now, "what fail2ban bans here stays here")
	default:
		now = append(now, "no fail2ban is installed here: `banmesh ban` alone bans")
	}
	fmt.Fprintf(c.out, "protected now: %s\n", strings.Join(now, "; "))
	for _, w := range st.Warnings {
		c.warn("note: %s", w)
	}
	fmt.Fprintln(c.out, "banmesh doctor looks for what is left to do; banmesh leave --uninstall takes all of this back")
}

// wants asks on a terminal for what can be undone; elsewhere the command itself is the answer.
func (c *console) wants(what string) bool {
	if c.yes || !isTerminal(c.in) {
		return true
	}
	fmt.Fprintf(c.errOut, "%s? [Y/n] ", what)
	line, err := bufio.NewReader(c.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	// Enter alone is the default, yes. The end of the input is no answer.
	case "":
		return err == nil
	}
	return false
}

// uninstall takes the set-up back. The agent leaves first, while its configuration and key are still there: without
// a leave the other members would go on looking for this router.
func (s *setup) uninstall(cc *cli.Context, c *console) error {
	if err := s.open(c); err != nil {
		return err
	}
	// The agent of this set-up, which need not be the one of the usual socket.
	if !cc.IsSet("socket") && c.getenv("BANMESH_SOCKET") == "" {
		c.socket = s.m.File.Socket
	}
	if n := s.m.Waiting(); n > 0 {
		if err := c.confirm(excerpt.Count(n, "call waits", "calls wait") + " for the agent, which passes on what no other router knows yet once it runs (systemctl start banmesh); here that is removed"); err != nil {
			return err
		}
	}
	return s.m.Uninstall(cc.Context, func() error {
		err := c.ask(cc.Context, leaveTime, c.leave)
		// Nobody is there to leave; what it has left behind is taken back all the same.
		switch {
		case errors.Is(err, control.ErrNoAnswer): // it is stopped all the same
			c.warn("the agent does not answer, so the other members go on looking for this one; `banmesh forget` there ends that")
			return nil
		case errors.Is(err, control.ErrNoAgent):
			fmt.Fprintln(c.out, "no agent runs here")
			return nil
		}
		return err
	})
}
