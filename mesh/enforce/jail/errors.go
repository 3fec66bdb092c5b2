package jail

import (
	"errors"
	"fmt"

	"banmesh/internal/shell"
	"banmesh/mesh/fail2ban"
)

// The shapes of a jail that must not be fed.
var (
	errDetects = errors.New("the jail has a filter: its bans are its own")
	errEchoes  = errors.New("the jail tells banmesh of its bans: what is fed would come back as this router's own")
)

// misfit says why a jail of that shape is left alone; nil where it may be fed.
func misfit(s fail2ban.Shape) error {
	switch {
	case s.Detects:
		return errDetects
	case s.NotifiesBans:
		return errEchoes
	}
	return nil
}

// advice is an error in plain words, with the command that fixes it.
func advice(jail string, err error) string {
	const shipped = "examples/fail2ban/jail.d/mesh.conf"
	switch {
	case errors.Is(err, fail2ban.ErrNoJail):
		return fmt.Sprintf("fail2ban has no jail %s: install %s into /etc/fail2ban/jail.d, then `fail2ban-client reload`", jail, shipped)
	case errors.Is(err, fail2ban.ErrNotRunning):
		return "fail2ban does not run: `systemctl start fail2ban`"
	case errors.Is(err, fail2ban.ErrNoClient):
		return "there is no fail2ban here: install it, set fail2ban.client, or take another enforce.driver"
	case errors.Is(err, fail2ban.ErrDenied):
		return "no permission for fail2ban's socket: `systemctl enable --now banmesh-fail2ban.socket`"
	case errors.Is(err, errDetects):
		return fmt.Sprintf("fail2ban's jail %s has a filter and is not touched: name a jail in enforce.jail that is for peers' bans only (%s)", jail, shipped)
	case errors.Is(err, errEchoes):
		return fmt.Sprintf("fail2ban's jail %s tells banmesh of its bans and is not touched: take banmesh's actionban from it (%s), then `fail2ban-client reload --restart %s`", jail, shipped, shell.Quote(jail))
	}
	return fmt.Sprintf("fail2ban's jail %s cannot be fed, tried again: %v", jail, err)
}

// removeError says that the jail still holds what was fed.
type removeError struct {
	jail string
	err  error
}

func (e *removeError) Error() string {
	return fmt.Sprintf("empty fail2ban's jail %s: %v: do it with `fail2ban-client reload --unban %s`", e.jail, e.err, shell.Quote(e.jail))
}

func (e *removeError) Unwrap() error { return e.err }
