package warning

import (
	"fmt"

	"banmesh/mesh/control"
)

// Unnotified says of each router whose fail2ban cannot be told of unbans.
func Unnotified(own string, routers []control.Unnotified) (w []string) {
	for _, u := range routers {
		whose, there := "the fail2ban of "+u.Router, " there"
		if u.Router == own {
			whose, there = "this router's fail2ban", ""
		}
		w = append(w, fmt.Sprintf("%s cannot be told of unbans and allows, and goes on blocking: %s; `banmesh doctor`%s says what helps", whose, u.Why, there))
	}
	return Few(w, "routers have a fail2ban that cannot be told of unbans and allows")
}
