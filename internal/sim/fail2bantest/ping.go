package fail2bantest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"time"
)

// endOfMessage ends requests and replies (fail2ban/protocol.py, CSPROTO.END).
const endOfMessage = "<F2B_END_COMMAND>"

// asks reports whether fail2ban answers a command with success. It talks to the socket itself: a fail2ban-client takes a
// fifth of a second of processor time, too much for a question that is repeated until the answer is yes.
func asks(socket string, command ...string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(clientTimeout))
	// A list of strings in Python's pickle format, protocol 2.
	request := []byte("\x80\x02](")
	for _, word := range command {
		request = append(request, 'X')
		request = binary.LittleEndian.AppendUint32(request, uint32(len(word)))
		request = append(request, word...)
	}
	request = append(request, "e."+endOfMessage...)
	if _, err := c.Write(request); err != nil {
		return false
	}
	var reply []byte
	for b := make([]byte, 4096); !bytes.Contains(reply, []byte(endOfMessage)); {
		n, err := c.Read(b)
		reply = append(reply, b[:n]...)
		if err != nil && (err != io.EOF || !bytes.Contains(reply, []byte(endOfMessage))) {
			return false
		}
	}
	// The reply is a pair, (0, result) or (1, error), after the protocol's version and, from version 4 on, the length.
	if len(reply) > 2 {
		reply = reply[2:]
	}
	if len(reply) > 9 && reply[0] == 0x95 {
		reply = reply[9:]
	}
	return bytes.HasPrefix(reply, []byte("K\x00"))
}
