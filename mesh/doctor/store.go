package doctor

import (
	"fmt"
	"strings"

	"banmesh/internal/shell"
	"banmesh/mesh/control"
	"banmesh/store"
)

// store says what keeps bans from the disk of this router.
func (r *report) store(s *control.StoreStatus, dir string) {
	if s == nil {
		return // an agent of an earlier version
	}
	if dir == "" {
		dir = "DATA_DIR"
	}
	switch {
	case s.Silent:
		r.add(Serious, s.Error, "New bans wait in memory, and this router does not lead, until it answers.",
			"bring the volume of "+dir+" back (dmesg; where it is frozen: fsfreeze --unfreeze on its mount point): findmnt --target "+shell.Quote(dir))
	case !s.Healthy:
		r.add(Serious, "the store cannot be written: "+s.Error, "New bans are refused, and this router does not lead.",
			"make "+dir+" writable, and room on its disk: df "+shell.Quote(dir)+"; the agent goes on by itself")
	default:
		r.ok("the store is written")
	}
}

// disk says when the disk of the agent is about to be full. The store may be written all the same, as long as there is room
// in its file, and what is kept beside it not.
func (r *report) disk(dir string, free func(string) (int64, bool)) {
	if dir == "" {
		return
	}
	if free == nil {
		free = store.FreeSpace
	}
	if left, ok := free(dir); ok && left < store.ScarceSpace {
		r.add(Serious, fmt.Sprintf("the disk of %s has %d KiB left", dir, left>>10), "New bans are refused as soon as it is full, and the history is not written.",
			"make room on it: df "+shell.Quote(dir)+", and du -xh on its mount point say what fills it")
	}
}

// unnotified says whose fail2ban goes on blocking what the mesh has lifted.
func (r *report) unnotified(s *control.Status) {
	const why = "What is unbanned or allowed in the mesh stays blocked there."
	for _, u := range s.Unnotified {
		// The remedy is at that router, whose own doctor knows more.
		if u.Router != s.Name {
			r.add(Warning, "the fail2ban of "+u.Router+" cannot be told of unbans and allows: "+u.Why, why, "on "+u.Router+": banmesh doctor")
			continue
		}
		fix := "fail2ban-client ping, and systemctl restart fail2ban where it does not answer"
		if strings.Contains(u.Why, "permission") {
			fix = "systemctl enable --now banmesh-fail2ban.socket"
		}
		r.add(Serious, "the agent cannot tell this router's fail2ban of unbans and allows: "+u.Why, why, fix)
	}
}
