package control

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAReplyIsWholeOrAnError(t *testing.T) {
	for _, c := range []struct {
		name, in string
		status   int
		body     string
		headErr  bool
		bodyErr  error
	}{
		{"with its length", "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, "abc", false, nil},
		{"more than its length", "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nabc", 409, "ab", false, nil},
		{"to the end of the connection", "HTTP/1.0 200 OK\r\nX: y\r\n\r\nabc", 200, "abc", false, nil},
		{"cut in the body", "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nabc", 200, "abc", false, io.ErrUnexpectedEOF},
		{"cut in the head", "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n", 0, "", true, nil},
		{"nothing at all", "", 0, "", true, nil},
		{"another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 0, "", true, nil},
		{"a length that is none", "HTTP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", true, nil},
		{"a head without end", "HTTP/1.0 200 OK\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", 0, "", true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, err := readReply(bufio.NewReader(strings.NewReader(c.in)))
			if (err != nil) != c.headErr {
				t.Fatalf("head: got %v, want an error: %v", err, c.headErr)
			}
			if err != nil {
				return
			}
			b, err := io.ReadAll(body)
			if status != c.status || string(b) != c.body || !errors.Is(err, c.bodyErr) {
				t.Errorf("got %d, %q, %v; want %d, %q, %v", status, b, err, c.status, c.body, c.bodyErr)
			}
		})
	}
}
