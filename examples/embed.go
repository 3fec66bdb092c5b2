// Package examples holds what an operator copies. The files that `banmesh init` and `banmesh join` put in place are in the
// program as well, so that there is one text of each.
package examples

import _ "embed"

// Files for /etc, each by the name of its example.
var (
	//go:embed fail2ban/action.d/banmesh.conf
	Fail2banAction []byte
	//go:embed fail2ban/jail.d/banmesh.conf
	Fail2banJail []byte
	//go:embed fail2ban/jail.d/ssh-journal.conf
	SSHJournalJail []byte
	//go:embed systemd/banmesh.service.d/nftables.conf
	NFTablesDropIn []byte
)
