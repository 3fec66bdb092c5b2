package mesh

import "time"

// lifeMessage is the body of the message that tells bans.max_duration: the others keep their lifts of this router's bans that
// long.
type lifeMessage struct{ MaxDuration int64 } // ms, 0 for none

const lifeFields = 1

func (a *Agent) lifeMessage() []byte {
	message, err := encodeMessage(messageLife, &lifeMessage{time.Duration(a.cfg.Bans.MaxDuration).Milliseconds()})
	if err != nil { // a number always fits
		a.log.Error("send bans.max_duration", "error", err)
	}
	return message
}

// heardLife takes in another member's bans.max_duration.
func (a *Agent) heardLife(from string, l lifeMessage) {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	a.store.HeardMaxDuration(from, time.Duration(min(l.MaxDuration, most))*time.Millisecond)
}
