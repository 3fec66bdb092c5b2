package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"banmesh/internal/safefile"
	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor/rest"
	"banmesh/mesh/control"
	"banmesh/netconfclient"
)

// trustTime bounds the fetching of a host key. How long the operator compares it is not bounded.
const trustTime = 20 * time.Second

func conductorCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "conductor", Category: "Conductor", Usage: "simulate a conductor, or pin a real one's key",
		Description: "Example:\n   banmesh conductor trust 192.0.2.1:830",
		Subcommands: []*cli.Command{conductorSimCommand(c), conductorTrustCommand(c)},
	}
}

// conductorSimCommand is for trying banmesh, and for writing another driver: it speaks what the real
// one speaks over the network, with faults on request.
func conductorSimCommand(c *console) *cli.Command {
	o := conductorsim.Options{Stdout: c.out}
	var style string
	return &cli.Command{
		Name: "sim", Usage: "run a simulated conductor",
		Description: "NETCONF over SSH, user admin. The directory holds host_key, client_key (made when absent), authorized_keys, known_hosts (with its\n" +
			"own line) and running.xml.\n\n" +
			"Example:\n   banmesh conductor sim --listen 127.0.0.1:8830 --dir ./conductor\n   ssh -i conductor/client_key -o UserKnownHostsFile=conductor/known_hosts -p 8830 admin@127.0.0.1 -s netconf",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Destination: &o.Listen, Usage: "where NETCONF answers, `IP:PORT`; port 0 takes a free one"},
			&cli.StringFlag{Name: "listen2", Destination: &o.Listen2, Usage: "where the second node of a pair answers, `IP:PORT`"},
			&cli.StringFlag{Name: "rest", Destination: &o.REST, Usage: "where REST answers, `IP:PORT`"},
			&cli.StringFlag{Name: "rest2", Destination: &o.REST2, Usage: "where REST of the second node answers, `IP:PORT`"},
			&cli.StringFlag{Name: "dir", Destination: &o.Dir, Usage: "its directory `DIR`, created if missing"},
			&cli.StringFlag{Name: "style", Value: "5.2", Destination: &style, Usage: "behave as `RELEASE`: 5.2, 5.5 or 5.6"},
			&cli.DurationFlag{Name: "commit-delay", Destination: &o.CommitDelay, Usage: "how long each commit takes, `DURATION`"},
			&cli.GenericFlag{Name: "fault", Value: (*faults)(&o.Faults), Usage: "a `FAULT` from the start, like slow-commit,for=5s; may be repeated"},
			&cli.StringFlag{Name: "password", Destination: &o.Password, Usage: "`PASSWORD` of the user for REST"},
		},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			for _, f := range []struct{ name, value string }{{"listen", o.Listen}, {"listen2", o.Listen2}, {"rest", o.REST}, {"rest2", o.REST2}} {
				// Only the first is needed; the others are further ways to the same conductor.
				if _, err := netip.ParseAddrPort(f.value); err != nil && (f.value != "" || f.name == "listen") {
					return usagef("--%s %s: want IP:PORT, like 127.0.0.1:8830", f.name, control.Show(f.value))
				}
			}
			if o.Dir == "" {
				return usagef("conductor sim: --dir is missing")
			}
			if o.CommitDelay < 0 {
				return usagef("--commit-delay %s: negative", o.CommitDelay)
			}
			if o.Style = conductorsim.Style(style); o.Style != conductorsim.Style52 && o.Style != conductorsim.Style55 && o.Style != conductorsim.Style56 {
				return usagef("--style %s: want 5.2, 5.5 or 5.6", control.Show(style))
			}
			o.Log = slog.New(slog.NewTextHandler(c.errOut, nil))
			ctx, stop := signal.NotifyContext(cc.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return conductorsim.Run(ctx, o)
		},
	}
}

// faults is a flag that may be repeated. It is no slice flag of the library, which would cut it at its commas.
type faults []conductorsim.Fault

func (f *faults) String() string { return "" }

// Set adds a fault, for each time that the flag is given.
func (f *faults) Set(text string) error {
	v, err := conductorsim.ParseFault(text)
	*f = append(*f, v)
	return err
}

// conductorTrustCommand is the one place where a key is accepted that nobody has pinned. The agent never does
// that by itself: the first connection is the one that can be intercepted.
func conductorTrustCommand(c *console) *cli.Command {
	var file, ca string
	return &cli.Command{
		Name: "trust", Usage: "show a conductor's host key or certificate, and pin it once you confirm", ArgsUsage: "ADDR",
		Description: "Before you say yes, compare the fingerprint with the one that the conductor itself shows (ssh-keygen -lf\n" +
			"/etc/ssh/ssh_host_ed25519_key.pub): the key pinned now is trusted from then on. For an https URL it is the certificate's; --ca-file\n" +
			"keeps that.\n\n" +
			"Example:\n   banmesh conductor trust 192.0.2.1:830 --known-hosts /etc/banmesh/known_hosts\n   banmesh conductor trust https://192.0.2.1 --ca-file /etc/banmesh/conductor.pem",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "known-hosts", Value: "/etc/banmesh/known_hosts", Destination: &file, Usage: "`FILE` that keeps the pinned keys"},
			&cli.StringFlag{Name: "ca-file", Destination: &ca, Usage: "`FILE` that keeps the certificate of an https URL; without it the line for the configuration is shown"},
			c.yesFlag(),
		},
		Action: func(cc *cli.Context) error {
			args, err := positional(cc, 1, 1)
			if err != nil {
				return err
			}
			addr := args[0]
			if strings.HasPrefix(addr, "https://") {
				ctx, cancel := context.WithTimeout(cc.Context, trustTime)
				defer cancel()
				return c.trustCertificate(ctx, addr, ca)
			}
			if _, _, err := net.SplitHostPort(addr); err != nil {
				// The port that RFC 6242 assigns to NETCONF over SSH; an IPv6 address may come with its
				// brackets.
				addr = net.JoinHostPort(strings.Trim(addr, "[]"), "830")
			}
			ctx, cancel := context.WithTimeout(cc.Context, trustTime)
			defer cancel()
			return c.trust(ctx, addr, file)
		},
	}
}

// trust pins the host key that the conductor offers now, in place of those that the file has for it. The file is
// replaced in one step, since agents may read it at any moment. It is not touched if the answer is no.
func (c *console) trust(ctx context.Context, addr, file string) error {
	key, err := netconfclient.FetchHostKey(ctx, addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s %s\n%s\n", key.Type, key.Fingerprint, key.Line)
	// The question is asked inside the replacement, so that it shows the keys of the very text that is replaced.
	done := "added to"
	// Readable by all: a host key is public, and the agent runs as another user than the one who trusts.
	err = safefile.Replace(file, safefile.Of(0o644), func(old []byte) ([]byte, error) {
		rest, pinned := withoutHost(string(old), strings.Fields(key.Line)[0])
		if slices.Contains(pinned, strings.Join(strings.Fields(key.Line)[1:], " ")) && len(pinned) == 1 {
			done = "it is already in"
			// Nothing to ask: this very key is trusted already, and no other.
			return old, nil
		}
		what := "believe this key of " + addr + " from now on"
		if len(pinned) > 0 {
			fmt.Fprintf(c.out, "THE KEY HAS CHANGED. Until now %s has for it:\n", file)
			for _, k := range pinned {
				fmt.Fprintf(c.out, "%s\n", describeKey(k))
			}
			what, done = "believe this key of "+addr+" instead from now on", "replaced in"
		}
		if err := c.agree(what); err != nil {
			return nil, err
		}
		if rest != "" && !strings.HasSuffix(rest, "\n") {
			rest += "\n"
		}
		return []byte(rest + key.Line + "\n"), nil
	})
	if err == nil {
		fmt.Fprintf(c.out, "%s %s\n", done, file)
	}
	return err
}

// withoutHost takes a host out of a known_hosts file, and returns the keys ("TYPE BASE64") that it had there. Lines with a
// marker, and hashed or negated names, are left alone.
func withoutHost(known, host string) (rest string, keys []string) {
	var out strings.Builder
	for line := range strings.Lines(known) {
		fields := strings.Fields(line)
		hosts := []string{}
		// The format of sshd(8): names, type, key; # is a comment, @ a marker such as @revoked.
		if len(fields) >= 3 && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "@") {
			hosts = strings.Split(fields[0], ",")
		}
		left := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return h == host })
		if len(left) == len(hosts) {
			out.WriteString(line)
			continue
		}
		keys = append(keys, fields[1]+" "+fields[2])
		// The line names other hosts too, which keep the key.
		if len(left) > 0 {
			out.WriteString(strings.Join(left, ",") + " " + strings.Join(fields[1:], " ") + "\n")
		}
	}
	return out.String(), keys
}

// describeKey shows a key of known_hosts as the conductor's own is shown.
func describeKey(key string) string {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		return "a line that is no key"
	}
	return k.Type() + " " + ssh.FingerprintSHA256(k)
}

// trustCertificate shows the certificate behind a URL, and keeps it in a file where one is named.
func (c *console) trustCertificate(ctx context.Context, addr, file string) error {
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" {
		return usagef("conductor trust %s: want https://HOST or https://HOST:PORT", control.Show(addr))
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	cert, err := rest.FetchCertificate(ctx, host)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "SHA-256 %s\nsubject %s\nfor     %s\nvalid   %s to %s\n", cert.Fingerprint, cert.Subject,
		strings.Join(cert.Names, ", "), cert.NotBefore.UTC().Format(time.DateOnly), cert.NotAfter.UTC().Format(time.DateOnly))
	// Said and not refused: the operator may pin it, and the agent goes on refusing it until it is valid.
	if now := c.now(); now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
		fmt.Fprintln(c.out, "        NOT VALID NOW: the conductor needs a new certificate, or its clock or ours is wrong.")
	}
	if file == "" {
		fmt.Fprintf(c.out, "to pin it, put this into the section commit of banmesh.yaml:\n  pin_sha256: %q\n", cert.Fingerprint)
		return nil
	}
	if err := c.agree("believe this certificate of " + addr + " from now on"); err != nil {
		return err
	}
	if err := safefile.Replace(file, safefile.Of(0o644), func([]byte) ([]byte, error) { return []byte(cert.PEM), nil }); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "written to %s\n", file)
	return nil
}
