package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// askFail2ban bounds the reading of all jails: fail2ban answers nobody while it works through an `unban --all`.
const askFail2ban = 2 * time.Minute

// local is what a command needs of the configuration that the agent of this router runs with.
type local struct {
	path  string // of the file, as given
	file  *config.File
	found bool // there is a file

	client, clientSocket string // win over the file's fail2ban
}

func (l *local) flag() cli.Flag {
	return &cli.StringFlag{Name: "config", Destination: &l.path, Usage: "the agent's configuration `FILE`; default " + defaultConfig + " where it exists"}
}

// load reads the configuration, or takes the defaults where none is named and none is in its usual place.
func (l *local) load() error {
	path := l.path
	if path == "" {
		path = defaultConfig
	}
	file, err := config.Load(path)
	switch {
	case err == nil:
		l.file, l.found = file, true
		return nil
	case l.path == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		// A user who may not read the usual file gets an answer by the defaults; one who named a file gets the
		// error.
		l.file = &config.File{Config: config.Default()}
		return nil
	}
	return err
}

// useSocket takes the agent's socket from the configuration where no flag and no variable names one.
func (l *local) useSocket(c *console, cc *cli.Context) {
	if l.found && !cc.IsSet("socket") && c.getenv("BANMESH_SOCKET") == "" {
		c.socket = l.file.Socket
	}
}

// fail2ban prefers the flags to the agent's configuration: check and import also run where no agent is
// configured yet.
func (l *local) fail2ban() *fail2ban.Client {
	return fail2ban.NewClient(fail2ban.ClientConfig{
		Command: cmp.Or(l.client, l.file.Fail2ban.Client), Socket: cmp.Or(l.clientSocket, l.file.Fail2ban.Socket),
	})
}

// meshJail is the jail that gets the peers' bans, "" where the configuration says that none does.
func (l *local) meshJail() string {
	if l.file.Enforce.Driver != "fail2ban" {
		return ""
	}
	return l.file.Enforce.Jail
}

// clientFlags say how the local fail2ban is asked; what they leave open is the configuration's.
func (l *local) clientFlags() []cli.Flag {
	return []cli.Flag{
		l.flag(),
		&cli.StringFlag{Name: "client", Destination: &l.client, Usage: "`PROGRAM` that asks fail2ban, with its arguments; default fail2ban.client of the configuration"},
		&cli.StringFlag{Name: "client-socket", Destination: &l.clientSocket, Usage: "fail2ban's own socket, `PATH`; default fail2ban.socket"},
	}
}

// fail2banImportCommand asks fail2ban itself rather than reading its database, which holds ended bans too and
// differs between versions.
func fail2banImportCommand(c *console) *cli.Command {
	var l local
	var except cli.StringSlice
	return &cli.Command{
		Name: "import", Usage: "take in the bans that the local fail2ban already holds",
		Description: "Shares the bans that fail2ban made before banmesh was set up on this router: those of all jails, with their times. It leaves out a jail\n" +
			"that holds the mesh's bans. Bans that are known already stay as they are.\n\n" +
			"Example:\n   banmesh fail2ban import\n   banmesh fail2ban import --except recidive",
		Flags: append(l.clientFlags(), &cli.StringSliceFlag{Name: "except", Destination: &except, Usage: "not of the jails `NAME,...`"}, c.socketFlag()),
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if err := l.load(); err != nil {
				return err
			}
			l.useSocket(c, cc)
			if err := c.takeIn(cc.Context, l.fail2ban(), except.Value(), l.meshJail()); err != nil {
				return fmt.Errorf("fail2ban import: %w", err)
			}
			return nil
		},
	}
}

// takeIn shares what the local fail2ban has banned. Jails that hold the mesh's own bans are left out, those that fail2ban itself
// shows as such beside the configured one: shared as this router's, a ban would outlive its lift at the router that made it.
func (c *console) takeIn(ctx context.Context, client *fail2ban.Client, except []string, meshJail string) error {
	asking, cancel := context.WithTimeout(ctx, askFail2ban)
	defer cancel()
	// After a set-up fail2ban has just been restarted.
	err := fail2ban.Await(asking, client, func() { c.warn("waiting for fail2ban, which does not run or has no jail yet") })
	if err != nil {
		return withRights(err)
	}
	meshJails, err := fail2ban.MeshJails(asking, client)
	if err != nil {
		return withRights(err)
	}
	if meshJail != "" && !slices.Contains(meshJails, meshJail) {
		meshJails = append(meshJails, meshJail)
	}
	held, err := fail2ban.Import(asking, client, slices.Concat(except, meshJails)...)
	if err != nil {
		return withRights(err)
	}
	var bans []control.HeldBan
	wide := 0
	for _, b := range held {
		if control.Wide(b.Prefix) {
			// Left out and not refused: one such ban must not keep back the others.
			wide++
			continue
		}
		if b.Prefix.Addr().IsUnspecified() {
			// What a mistyped `banip 192.0.2.1/0` leaves in fail2ban; the hook refuses it too.
			c.warn("note: %s left out: it is no one's address", b.Prefix.Addr())
			continue
		}
		bans = append(bans, control.HeldBan{Prefix: b.Prefix, Jail: b.Jail, Start: control.Time(b.Start), Until: untilOf(b.Until)})
	}
	if wide > 0 {
		c.warn("note: %d left out that are wider than /16 (IPv4) or /32 (IPv6): banmesh ban --force takes them", wide)
	}
	for _, jail := range meshJails {
		c.warn("note: jail %s left out: what it holds comes from the mesh", jail)
	}
	if len(bans) == 0 {
		fmt.Fprintln(c.out, "the local fail2ban holds no bans")
		return nil
	}
	var total control.TakeInReply
	for part := range slices.Chunk(bans, control.MaxTakeIn) {
		err := c.ask(ctx, callTime+bulkTime, func(ctx context.Context, cl *control.Client) error {
			r, err := cl.TakeIn(ctx, control.TakeInCall{Bans: part})
			// Taken in before an error of a later part stays: the next run finds it known.
			total.BanReply, total.Unshared = add(total.BanReply, r.BanReply), total.Unshared+r.Unshared
			return err
		})
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(c.out, "%d bans of the local fail2ban: %d taken in, %d known already, %d stay unbanned, %d over, %d not shared\n",
		len(bans), total.New+total.Extended, total.Known, total.StaysLifted, total.Expired, total.Unshared)
	return nil
}

// untilOf is the end of a ban as a call states it.
func untilOf(u store.Millis) control.Until {
	if u == store.Never {
		return control.Never
	}
	return control.Until(u)
}

// withRights adds what helps where fail2ban's socket is root's.
func withRights(err error) error {
	if errors.Is(err, fail2ban.ErrDenied) && os.Geteuid() != 0 {
		return fmt.Errorf("%w: run it as root", err)
	}
	return err
}

// fail2banCheckCommand runs without an agent: it is about the other end.
func fail2banCheckCommand(c *console) *cli.Command {
	var l local
	return &cli.Command{
		Name: "check", Usage: "find what keeps the local fail2ban from sharing its bans",
		Description: "Changes nothing. Each finding says what is wrong, why it matters and how to fix it. Exits 1 if one is serious.\n\n" +
			"Example:\n   banmesh fail2ban check",
		Flags: append(l.clientFlags(), c.jsonFlag()),
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			if err := l.load(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cc.Context, askFail2ban)
			defer cancel()
			found, err := fail2ban.Check(ctx, l.fail2ban(), l.meshJail())
			if err != nil {
				return fmt.Errorf("fail2ban check: %w", err)
			}
			return c.reportFindings(found, "nothing is wrong with the local fail2ban")
		},
	}
}
