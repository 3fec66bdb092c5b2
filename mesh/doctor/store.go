package doctor

import (
	"strings"

	"banmesh/mesh/control"
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
			"bring the volume of "+dir+" back (dmesg; where it is frozen: fsfreeze --unfreeze on its mount point): findmnt --target "+dir)
	case !s.Healthy:
		r.add(Serious, "the store cannot be written: "+s.Error, "New bans are refused, and this router does not lead.",
			"make "+dir+" writable, and room on its disk: df "+dir+"; the agent goes on by itself")
	default:
		r.ok("the store is written")
	}
}

// unnotified says whose fail2ban goes on blocking what the mesh has lifted.
func (r *report) unnotified(s *control.Status) {
	const why = "What is unbanned or allowed in the mesh stays blocked there."
	for _, u := range s.Unnotified {
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
