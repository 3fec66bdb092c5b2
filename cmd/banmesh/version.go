package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Set by the linker (-X main.version=... -X main.commit=...); a build without that knows what the go command noted.
var (
	version string
	commit  string
)

// build is what was built.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// thisBuild prefers what the release build wrote with -ldflags. `go install` and `go build` leave the
// module's version and the revision, with + for changes that were not committed.
func thisBuild() build {
	b := build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		// A build without module information; what the linker wrote is shown all the same.
		info = &debug.BuildInfo{}
	}
	if b.Version == "" {
		b.Version = "dev"
		if v := info.Main.Version; v != "" && v != "(devel)" {
			b.Version = v
		}
	}
	if b.Commit == "" {
		b.Commit = "unknown"
		modified := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				b.Commit = s.Value[:12]
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = "+"
			}
		}
		b.Commit += modified
	}
	return b
}

func versionCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "version", Category: "Other", Usage: "show version, commit and Go's version",
		Description: "Example:\n   banmesh version --json",
		Flags:       []cli.Flag{c.jsonFlag()},
		Action: func(cc *cli.Context) error {
			if _, err := positional(cc, 0, 0); err != nil {
				return err
			}
			b := thisBuild()
			if c.json {
				return c.printJSON(b)
			}
			_, err := fmt.Fprintf(c.out, "banmesh %s (commit %s, %s, %s)\n", b.Version, b.Commit, b.Go, b.Platform)
			return err
		},
	}
}
