package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"banmesh/mesh/control"
)

func TestMonitorSaysWhyItsStreamHasEnded(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		err  error
		last control.Event
		want string
	}{
		{io.EOF, control.Event{Event: "ban"}, "the agent has stopped"},
		{io.EOF, control.Event{Event: "error", Lost: 7}, "does not keep up"},
		{fmt.Errorf("events: %w", io.ErrUnexpectedEOF), control.Event{Event: "ban"}, "left unread for too long"},
		{refused, control.Event{}, "refused"},
	} {
		if got := streamEnd(c.err, c.last); got == nil || !strings.Contains(got.Error(), c.want) {
			t.Errorf("after %v and %+v: %v, want %q", c.err, c.last, got, c.want)
		}
	}
	if err := streamEnd(nil, control.Event{}); err != nil {
		t.Errorf("without an error: %v", err)
	}
}
