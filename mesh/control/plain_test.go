package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// answering is a client of an agent that answers every call with the same status and body.
func answering(t *testing.T, status int, body string) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for r := bufio.NewReader(conn); ; {
				if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
					break
				}
			}
			fmt.Fprintf(conn, "HTTP/1.0 %d Said\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
			conn.Close()
		}
	}()
	return NewClient(socket)
}

func TestNoReplySteersTheTerminal(t *testing.T) {
	// An escape, a C1 control in UTF-8 and a mark that turns the line around.
	const evil = `a\u001b]0;owned\u0007b\u009b2Jc\u202ed ü`
	const want = "a?]0;owned?b?2Jc?d ü"
	check := func(where, got string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", where, got, want)
		}
	}

	s, err := answering(t, 200, strings.ReplaceAll(`{"name":"X","leader":"X","warnings":["X"],"doubts":[{"what":"X"}],"enforce":{"detail":"X"},"commit":{"last_error":"X"}}`, "X", evil)).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for where, got := range map[string]string{
		"name": s.Name, "leader": *s.Leader, "warning": s.Warnings[0], "doubt": s.Doubts[0].What, "enforcement": s.Enforce.Detail, "commit": *s.Commit.LastError,
	} {
		check(where, got)
	}

	var e Event
	err = answering(t, 200, `{"event":"`+evil+`","detail":"`+evil+`"}`).Events(t.Context(), func(got Event) error { e = got; return nil })
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	check("event", e.Event)
	check("detail", e.Detail)

	var b Ban
	line := `{"prefix":"` + evil + `","effective":true,"until":null,"committed":false,"records":[{"origin":"r","jail":"j","start":null,"until":null,"failures":0,"reason":"` + evil + `"}]}`
	if err := answering(t, 200, "["+line+"\n]\n").List(t.Context(), ListQuery{}, func(got Ban) error { b = got; return nil }); err != nil {
		t.Fatal(err)
	}
	check("prefix", b.Prefix)
	check("reason", b.Records[0].Reason)

	var copied strings.Builder
	if err := answering(t, 200, "[{\"reason\":\"\x1b[2Jü\u009b\x7f\"}\n]\n").ListJSON(t.Context(), ListQuery{}, &copied); err != nil {
		t.Fatal(err)
	}
	if want := "[{\"reason\":\"?[2Jü\xc2??\"}\n]\n"; copied.String() != want {
		t.Errorf("JSON of a list: got %q, want %q", copied.String(), want)
	}

	var refused *Error
	if _, err := answering(t, 409, `{"error":"`+evil+`","code":"conflict"}`).Status(t.Context()); !errors.As(err, &refused) {
		t.Fatal(err)
	}
	check("refusal", refused.Message)
}
