package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"github.com/urfave/cli/v2"

	"banmesh/internal/shell"
	"banmesh/mesh"
	"banmesh/mesh/config"
)

// configCommand checks what the agent checks at its start, and what it would only find later: files that are
// missing, unreadable for its user, or no certificate.
func configCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "config", Category: "Mesh", Usage: "check a configuration, or describe its keys",
		Description: "Example:\n   banmesh config check /etc/banmesh/banmesh.yaml",
		Subcommands: []*cli.Command{{
			Name: "schema", Usage: "write the JSON schema of the configuration",
			Description: "For editors and for what writes configurations: keys, types, choices and defaults. An editor takes it from a first line\n" +
				"like # yaml-language-server: $schema=/etc/banmesh/schema.json\n\n" +
				"Example:\n   banmesh config schema > /etc/banmesh/schema.json",
			Action: func(cc *cli.Context) error {
				if _, err := positional(cc, 0, 0); err != nil {
					return err
				}
				_, err := c.out.Write(config.Schema())
				return err
			},
		}, {
			Name: "check", Usage: "check whether an agent would start with a file", ArgsUsage: "FILE",
			Description: "Lists every error with its file, line and key, and exits 1 if there is one. The files that the configuration names must\n" +
				"exist and be readable by the agent's user: run it as root, or as that user. It contacts no other host.\n\n" +
				"Example:\n   banmesh config check /etc/banmesh/banmesh.yaml",
			Action: func(cc *cli.Context) error {
				args, err := positional(cc, 1, 1)
				if err != nil {
					return err
				}
				file, err := config.Check(args[0])
				// A file that cannot be parsed at all names no other files to look at.
				if file != nil {
					err = errors.Join(err, unreadable(args[0], &file.Config), unusableTLS(args[0], &file.Config))
				}
				if err != nil {
					return c.printFaults(err)
				}
				_, err = fmt.Fprintf(c.out, "%s: OK\n", args[0])
				return err
			},
		}},
	}
}

// printFaults says each in a line of its own.
func (c *console) printFaults(err error) error {
	var tell func(err error)
	tell = func(err error) {
		if several, ok := err.(interface{ Unwrap() []error }); ok {
			// What is joined is told apart, so that each error has its line, as compilers print them.
			for _, err := range several.Unwrap() {
				tell(err)
			}
			return
		}
		c.warn("%s", oneLine(err))
	}
	tell(err)
	return exitStatus(exitFailed)
}

// unreadable finds the files of a configuration that the agent could not read.
func unreadable(config string, cfg *config.Config) error {
	var bad []error
	as := agentUser(cfg)
	for _, f := range files(cfg) {
		if err := readableAs(as, f.Path); err != nil {
			bad = append(bad, fmt.Errorf("%s: %s: %w", config, f.Key, err))
		}
	}
	return errors.Join(bad...)
}

// unusableTLS says why the HTTP listener's certificate cannot be used, where its files can be read.
func unusableTLS(config string, cfg *config.Config) error {
	files := mesh.TLSFiles(&cfg.HTTP)
	if cfg.HTTP.Listen == "" || files.Cert == "" || files.Key == "" {
		return nil
	}
	err := files.Check()
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // said of each file already
		return nil
	}
	return fmt.Errorf("%s: %w", config, err)
}

// agentUser is who the agent runs as, by whom its data belong to; nil where that is who runs this, or not known yet.
func agentUser(cfg *config.Config) *syscall.Credential {
	info, err := os.Stat(cfg.DataDir)
	if err != nil || os.Geteuid() != 0 {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
}

// readableAs says why a user cannot read a file. The kernel is asked, by a process of that user's: rights of directories
// above, of groups and of access lists are all in its answer.
func readableAs(who *syscall.Credential, path string) error {
	// A pipe in its place must hold up neither this nor the package's upgrade, which asks this.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", path)
	}
	if who == nil {
		return nil
	}
	// It asks the kernel as that user, and reads nothing of the file.
	cmd := exec.Command("test", "-r", path)
	// The caller's directory may be closed to that user.
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return fmt.Errorf("%s cannot be read by the agent's user %d: chown -h %d %s", path, who.Uid, who.Uid, shell.Quote(path))
	case err != nil:
		return fmt.Errorf("%s: whether the agent's user can read it is not known: %w", path, err)
	}
	return nil
}
