package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"banmesh/internal/shell"
	"banmesh/mesh/fail2ban"
)

// File is one that the agent reads.
type File struct {
	Path   string
	What   string // as in: gossip keys
	Key    string // of the configuration
	Secret string // what who has it can do: nobody else may read it; "" is no secret
	Group  bool   // its group may read it all the same
	Make   string // the command that makes it
}

// files looks at what the configuration names. Whether the agent's own user may read it is another question than this one,
// which root can ask: whether others may.
func (r *report) files(files []File) {
	for _, f := range files {
		what := fmt.Sprintf("%s %s (%s)", f.What, f.Path, f.Key)
		info, err := os.Stat(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.add(Serious, what+" is not there", "The agent does not start, or does not commit, without it.", f.Make)
			continue
		case errors.Is(err, fs.ErrPermission):
			r.add(Warning, what+" cannot be looked at", "Its rights are not known: "+err.Error(), "run banmesh doctor as root")
			continue
		case err != nil:
			r.add(Warning, what+" cannot be looked at: "+err.Error(), "Its rights are not known.", "ls -l "+shell.Quote(f.Path))
			continue
		}
		mode := info.Mode().Perm()
		switch {
		case !info.Mode().IsRegular():
			r.add(Serious, what+" is no file", "The agent cannot read it.", f.Make)
		case info.Size() == 0:
			r.add(Serious, what+" is empty", "The agent cannot use it.", f.Make)
		// Others have no right at all, and the group none, or where that is usual only to read.
		case f.Secret != "" && (mode&0o037 != 0 || mode&0o040 != 0 && !f.Group):
			r.add(Serious, fmt.Sprintf("the rights of %s are %04o", what, mode),
				"Others on this router can read it: who has it can "+f.Secret+".", "chmod 600 "+shell.Quote(f.Path))
		case mode&0o022 != 0:
			r.add(Serious, fmt.Sprintf("the rights of %s are %04o", what, mode), "Others on this router can change it.", "chmod go-w "+shell.Quote(f.Path))
		default:
			r.ok("the rights of %s are %04o", what, mode)
		}
	}
}

// quietLog is for how long a log may be silent before that is worth a word:
// every host that the Internet reaches is tried more often.
const quietLog = 48 * time.Hour

// logs looks at what fail2ban reads.
func (r *report) logs(now time.Time, sources []fail2ban.LogSource) {
	for _, s := range sources {
		if s.Journal {
			r.ok("jail %s reads the journal", s.Jail)
		}
		for _, path := range s.Files {
			r.log(now, s.Jail, path)
		}
	}
}

// log judges a file that a jail reads, as a jail whose log is missing or silent looks like one without
// attacks.
func (r *report) log(now time.Time, jail, path string) {
	info, err := os.Stat(path)
	in := fmt.Sprintf("jail %s reads %s", jail, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.add(Serious, in+", which is not there", "It sees no attack.",
			"let rsyslog write it, or set backend = systemd in the jail; then fail2ban-client reload --restart "+shell.Quote(jail))
	case err != nil:
		r.add(Warning, in+": "+err.Error(), "Whether it sees anything is not known.", "run banmesh doctor as root")
	case info.Mode().Perm()&0o002 != 0:
		r.add(Warning, in+", which everybody may write", "Who has an account here can have any address banned everywhere.", "chmod o-w "+shell.Quote(path))
	case now.Sub(info.ModTime()) > quietLog:
		r.add(Warning, fmt.Sprintf("%s, where nothing was written since %s", in, info.ModTime().UTC().Format(time.DateTime)),
			"It sees no attack: on a Session Smart Router the system's rsyslog leaves /var/log/secure out unless told to write it.",
			"logger -p authpriv.info banmesh-test && tail -n 1 "+shell.Quote(path)+"; if it is not there, set backend = systemd in the jail")
	default:
		r.ok("%s", in)
	}
}
