package helper

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
)

// Ask makes one request of the helper that listens on a socket. An error says that the helper could not be asked; what it
// answers is in the Reply.
func Ask(ctx context.Context, socket string, words []string) (Reply, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return Reply{}, fmt.Errorf("banmesh-fail2ban: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// One that is not let in may find the connection closed before it has asked: that there is no answer says it all.
	json.NewEncoder(conn).Encode(words)
	var reply Reply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Reply{}, fmt.Errorf("banmesh-fail2ban: no answer: only the agent's user gets one: %w", err)
	}
	return reply, nil
}
