package mesh_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rooms that run in a simulated agent.
var simulated = []string{".", "alert", "commit", "conductor", "config", "control", "enforce", "fail2ban", "gossip", "leader", "neverban", "peer", "quorum", "spool", "warning", "../store"}

// Where the doors are, and what is behind them: the real thing, which a simulation
// replaces, and what is done once by a command before an agent runs.
var behind = map[string]string{
	"doors.go":         "the real things",
	"hostaddrs.go":     "Doors.Addresses",
	"conductor.go":     "Doors.Conductor",
	"alert/command.go": "Doors.Alert",
	"rights.go":        "Doors.Prepare",
	"obstacle.go":      "what helps where a start fails",
	"config/config.go": "the default name, before the start",
	"config/name.go":   "the machine's id, where the configuration is read",
	"config/file.go":   "reading the configuration, before the start and when told to",
	"inviter.go":       "the conductor's public files, when a machine is let in",
	"http.go":          "the size of the store's file, for the metrics of Doors.ListenHTTP",

	"../store/disk.go":   "store.Config.Commit",
	"../store/check.go":  "store.Config.Commit",
	"../store/shrink.go": "store.Config.Commit",
	"../store/space.go":  "store.Config.Commit",

	"enforce/capability_linux.go": "Doors.Prepare",
	"enforce/nftables_linux.go":   "Doors.Kernel",
	"enforce/dump_linux.go":       "Doors.Kernel",
	"enforce/layout_linux.go":     "Doors.Kernel",
	"enforce/ingress_linux.go":    "Doors.Kernel",
	"enforce/message_linux.go":    "Doors.Kernel",
	"enforce/symbols_linux.go":    "Doors.Kernel",
	"enforce/watch_linux.go":      "Doors.Kernel",
	"enforce/membership_linux.go": "Doors.Kernel",

	"fail2ban/client.go":        "Doors.Fail2ban",
	"fail2ban/check.go":         "banmesh doctor",
	"fail2ban/checkdown.go":     "banmesh doctor",
	"fail2ban/checkssh.go":      "banmesh doctor",
	"fail2ban/checkmeshjail.go": "banmesh doctor",
	"fail2ban/logsource.go":     "banmesh doctor",

	"gossip/link.go":        "Doors.Transport",
	"gossip/address.go":     "Doors.Transport",
	"gossip/owner_linux.go": "Doors.Transport",
	"gossip/config.go":      "Doors.Lookup, its default",
	"gossip/keyring.go":     "the file of the keys; keys are the system's",
	"gossip/keyexchange.go": "keys are the system's",
	"gossip/stream.go":      "nonces are the system's",
	"gossip/packet.go":      "nonces are the system's",

	"spool/dir.go":         "Doors.Spools",
	"spool/drain.go":       "Doors.Spools",
	"spool/spool.go":       "Doors.Spools",
	"spool/whereabouts.go": "Doors.Spools",
	"control/client.go":    "the commands, not the agent",
	"control/calls.go":     "the commands, not the agent",
}

// used says what of a package reaches past the doors.
func used(pkg, name string) bool {
	switch pkg {
	case "crypto/rand", "os/exec", "os/user", "net/http":
		return true
	case "syscall":
		return strings.ToUpper(name) != name // an error's number does nothing
	case "math/rand/v2":
		return !slices.Contains([]string{"Rand", "Source", "New", "NewPCG"}, name)
	case "os":
		return !slices.Contains([]string{"ErrNotExist", "ErrExist", "ErrPermission", "ErrDeadlineExceeded", "ErrClosed", "DirFS"}, name)
	case "net":
		return strings.HasPrefix(name, "Listen") && name != "Listener" || strings.HasPrefix(name, "Dial") || strings.HasPrefix(name, "Interface") || strings.HasPrefix(name, "LookupIP") ||
			strings.HasPrefix(name, "LookupHost") || name == "DefaultResolver"
	}
	return false
}

// Nothing that runs in a simulated agent goes past the doors: no socket, process, file or chance of its own.
func TestNothingGoesPastTheDoors(t *testing.T) {
	spared := make(map[string]bool)
	for _, room := range simulated {
		files, err := filepath.Glob(filepath.Join(room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("room %s: %v files, %v", room, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, "_other.go") {
				continue
			}
			past := pastDoors(t, file)
			if _, known := behind[file]; known {
				spared[file] = true
				continue
			}
			for _, p := range past {
				t.Errorf("%s goes past the doors of mesh.Options: take it from there, or name the file in this test as being behind one", p)
			}
		}
	}
	for file := range behind {
		if !spared[file] {
			t.Errorf("%s is named as being behind a door and is not there", file)
		}
	}
}

func pastDoors(t *testing.T, file string) (out []string) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string]string)
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		name := strings.TrimSuffix(path, "/v2")
		name = name[strings.LastIndexByte(name, '/')+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = path
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Obj == nil && used(imports[x.Name], s.Sel.Name) {
			out = append(out, set.Position(s.Pos()).String()+": "+x.Name+"."+s.Sel.Name)
		}
		return true
	})
	return out
}
