package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"banmesh/internal/shell"
	"banmesh/mesh"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/doctor"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/login"
)

// doctorTime bounds the whole examination; a conductor may need most of it.
const doctorTime = 2 * time.Minute

// doctorCommand looks at the machine itself as well as at the agent's answers, and so finds what keeps the
// agent from running at all.
func doctorCommand(c *console) *cli.Command {
	var l local
	return &cli.Command{
		Name: "doctor", Category: "Mesh", Usage: "find what is wrong on this machine and how to fix it",
		Description: "Looks at the configuration, the rights of its files, the members both ways, the clock, the commits, the conductor (login, host key,\n" +
			"tenant, whether a service denies it), fail2ban and its logs, and what never-ban covers. Changes nothing. Exits 1 if something is\n" +
			"serious. Run it as root.\n\n" +
			"Example:\n   banmesh doctor\n   banmesh doctor --config /etc/banmesh/banmesh.yaml --json",
		Flags: append(l.clientFlags(), c.jsonFlag(), c.socketFlag()),
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cc.Context, doctorTime)
			defer cancel()
			// First, because the socket and all paths that are looked at come from it.
			found := l.configuration()
			l.useSocket(c, cc)
			return c.reportFindings(append(found, c.examine(ctx, &l)...), "nothing is wrong here")
		},
	}
}

// configuration looks at the file, and goes on with the defaults where it cannot be used.
func (l *local) configuration() []doctor.Finding {
	finding := func(s doctor.Severity, what, why, fix string) []doctor.Finding {
		return []doctor.Finding{{Severity: s, What: what, Why: why, Fix: fix}}
	}
	err := l.load()
	if err == nil && l.found {
		err = l.file.Validate()
	}
	path := l.path
	if path == "" {
		path = defaultConfig
	}
	switch {
	case err != nil:
		// With the defaults the agent, the members and fail2ban can still be looked at.
		if l.file == nil {
			l.file = &config.File{Config: config.Default()}
		}
		fix := "banmesh config check " + shell.Quote(path)
		if errors.Is(err, fs.ErrNotExist) {
			fix = "banmesh doctor --config FILE, with the agent's own file"
		}
		return finding(doctor.Serious, oneLine(err), "The agent does not start with it.", fix)
	case !l.found:
		return finding(doctor.Note, "no configuration at "+path+", or it cannot be read", "What it says of keys and of the conductor is not looked at.", "banmesh doctor --config FILE, as root")
	}
	return finding(doctor.OK, "the configuration "+path+" is well", "", "")
}

// examine looks at this machine with the rights of the caller, beside the agent and not through it: most of what it looks for
// is why an agent does not start, does not answer or may not read something.
func (c *console) examine(ctx context.Context, l *local) []doctor.Finding {
	cfg := &l.file.Config
	p := doctor.Patient{
		Files: files(cfg), DataDir: cfg.DataDir, Agent: bounded{c.client()}, Now: c.now(), Synchronized: synchronized,
		User: cfg.Commit.User, KnownHosts: cfg.Commit.KnownHosts, Tenant: cfg.Commit.Tenant,
		Shell: login.Shell(c.getenv),
	}
	for _, place := range mesh.Places(ctx, cfg) {
		p.Places = append(p.Places, doctor.Place{Addr: place.Addr, What: place.What})
	}
	if sessions, err := login.Sessions(c.utmp); err == nil {
		p.Logins = sessions
	}
	client := l.fail2ban()
	p.Fail2ban, _ = fail2ban.Check(ctx, client, l.meshJail()) // its only error is that ctx has ended
	if logs, err := client.LogSources(ctx); err == nil {
		p.Logs = logs // why not is among what Check found
	}
	found := append(unreadableByAgent(cfg), certificate(cfg, c.now())...)
	// Nil without a driver: such a mesh has no conductor, and nothing is said of one. Its log is discarded,
	// since what it meets becomes a finding.
	probe, err := mesh.NewProbe(&cfg.Commit, slog.New(slog.DiscardHandler))
	switch {
	case err != nil:
		found = append(found, doctor.Finding{Severity: doctor.Serious, What: "the conductor: " + oneLine(err), Why: "The agent does not start.", Fix: "fix the section commit of the configuration"})
	case probe != nil:
		defer probe.Close()
		p.Conductor, p.Conductors = probe, cfg.Commit.Conductors
	}
	return append(append(found, flaws(cfg)...), doctor.Examine(ctx, p)...)
}

// certificateEnds is how long before its end a certificate is a warning, as for the conductor's.
const certificateEnds = 30 * 24 * time.Hour

// certificate looks at that of the HTTP listener.
func certificate(cfg *config.Config, now time.Time) []doctor.Finding {
	files := mesh.TLSFiles(&cfg.HTTP)
	if cfg.HTTP.Listen == "" || files.Cert == "" || files.Key == "" {
		return nil
	}
	leaf, err := files.Leaf()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil // said of the file
	case err != nil:
		return []doctor.Finding{{Severity: doctor.Serious, What: oneLine(err), Why: "The agent does not start with it; one that runs still uses its previous certificate.", Fix: "openssl x509 -noout -text -in " + shell.Quote(files.Cert)}}
	case now.After(leaf.NotAfter):
		return []doctor.Finding{{Severity: doctor.Serious, What: fmt.Sprintf("the HTTP listener's certificate %s expired on %s", files.Cert, leaf.NotAfter.UTC().Format(time.DateOnly)), Why: "Clients that read metrics, feeds and the page refuse it.", Fix: "renew it; the agent loads the new one by itself"}}
	case leaf.NotAfter.Sub(now) < certificateEnds:
		return []doctor.Finding{{Severity: doctor.Warning, What: fmt.Sprintf("the HTTP listener's certificate %s expires on %s", files.Cert, leaf.NotAfter.UTC().Format(time.DateOnly)), Why: "Then clients that read metrics, feeds and the page refuse it.", Fix: "renew it; the agent loads the new one by itself"}}
	}
	return []doctor.Finding{{Severity: doctor.OK, What: fmt.Sprintf("the HTTP listener's certificate is good until %s", leaf.NotAfter.UTC().Format(time.DateOnly))}}
}

// files are those that the agent reads beside its configuration.
func files(cfg *config.Config) []doctor.File {
	// Each completes a sentence of package doctor: who has the secret can …
	const bans, configures, reads = "ban and unban everywhere", "configure the conductor", "read what is banned and who is in the mesh"
	var out []doctor.File
	add := func(path, key, what, secret, remedy string) {
		if path != "" {
			out = append(out, doctor.File{Path: path, Key: key, What: what, Secret: secret, Make: remedy})
		}
	}
	add(cfg.Gossip.Keyring, "gossip.keyring", "the gossip keys", bans, "copy it from another router, or for the first one: echo \"[\\\"$(banmesh keygen)\\\"]\" | "+installLine(cfg, cfg.Gossip.Keyring))
	k := &cfg.Commit
	trust := "banmesh conductor trust ADDRESS --known-hosts " + shell.Quote(k.KnownHosts)
	switch k.Driver {
	case "netconf":
		add(k.Key, "commit.key", "the conductor's login key", configures, asAgent(cfg)+"ssh-keygen -t ed25519 -N '' -f "+shell.Quote(k.Key))
		add(k.KnownHosts, "commit.known_hosts", "the conductor's host key", "", trust)
	case "rest":
		add(k.PasswordFile, "commit.password_file", "the conductor's password", configures, installLine(cfg, k.PasswordFile)+", then type the password of "+k.User+", Enter and Ctrl-D")
		add(k.TokenFile, "commit.token_file", "the conductor's token", configures, installLine(cfg, k.TokenFile)+", then type a token of the conductor, Enter and Ctrl-D")
		add(k.CAFile, "commit.ca_file", "the conductor's certificate authority", "", "copy it from the conductor")
	}
	if cfg.HTTP.Listen != "" && cfg.HTTP.TokenFile != "" {
		add(cfg.HTTP.TokenFile, "http.token_file", "the token of the HTTP listener", reads, "openssl rand -hex 32 | "+installLine(cfg, cfg.HTTP.TokenFile))
		out[len(out)-1].Group = true
	}
	if h := &cfg.HTTP; h.Listen != "" {
		const renew = "have your authority's client (certbot, acme.sh) put it there, readable by the agent's user"
		add(h.CertFile, "http.cert_file", "the certificate of the HTTP listener", "", renew)
		if h.KeyFile != "" {
			add(h.KeyFile, "http.key_file", "the key of the HTTP listener's certificate", "answer in this machine's name", renew)
			out[len(out)-1].Group = true
		}
		add(h.ClientCAFile, "http.client_ca_file", "the authorities of the HTTP listener's clients", "", "copy it from your authority")
	}
	return out
}

// installLine writes what it reads into a file of the agent's. Not > and chown: root would follow a link that the agent's user,
// who may write in /etc/banmesh, has put there.
func installLine(cfg *config.Config, path string) string {
	to := ""
	if who := agentUser(cfg); who != nil {
		to = fmt.Sprintf("-o %d -g %d ", who.Uid, who.Gid)
	}
	return "install -T " + to + "-m 0600 /dev/stdin " + shell.Quote(path)
}

// asAgent runs what follows as the agent's user, "" where that is who runs this.
func asAgent(cfg *config.Config) string {
	who := agentUser(cfg)
	if who == nil {
		return ""
	}
	return fmt.Sprintf("setpriv --reuid %d --regid %d --clear-groups ", who.Uid, who.Gid)
}

// unreadableByAgent are the files that are there, and that the agent cannot read: root made them, mostly.
func unreadableByAgent(cfg *config.Config) []doctor.Finding {
	who := agentUser(cfg)
	var out []doctor.Finding
	for _, f := range files(cfg) {
		if _, err := os.Stat(f.Path); err != nil || who == nil {
			continue // what is not there is said with how to make it
		}
		if err := readableAs(who, f.Path); err != nil {
			out = append(out, doctor.Finding{Severity: doctor.Serious, What: fmt.Sprintf("%s %s (%s): the agent's user %d cannot read it", f.What, f.Path, f.Key, who.Uid),
				Why: "The agent does not start, or does not commit, without it.", Fix: fmt.Sprintf("chown -h %d:%d %s", who.Uid, who.Gid, shell.Quote(f.Path))})
		}
	}
	return out
}

// bounded is the agent with a deadline for each question, so that one that hangs is said to.
type bounded struct{ client *control.Client }

// Each question has a limit of its own: one that hangs must not use up the time of the others.
func (b bounded) Status(ctx context.Context) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return b.client.Status(ctx)
}

func (b bounded) Members(ctx context.Context) ([]control.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return b.client.Members(ctx)
}

func (b bounded) Why(ctx context.Context, p netip.Prefix) (control.Why, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return b.client.Why(ctx, p)
}
