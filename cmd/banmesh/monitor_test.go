package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

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

func TestMonitorSelects(t *testing.T) {
	e := control.Event{Event: "ban", Prefix: "203.0.113.7/32", Origin: "router1", Jail: "sshd"}
	for _, tt := range []struct {
		w    watched
		want bool
	}{
		{watched{}, true}, {watched{jail: "sshd", origin: "router1"}, true}, {watched{jail: "web"}, false}, {watched{origin: "router2"}, false},
		{watched{prefix: netip.MustParsePrefix("203.0.113.0/24")}, true}, {watched{prefix: netip.MustParsePrefix("203.0.113.7/32")}, true},
		{watched{prefix: netip.MustParsePrefix("203.0.113.8/32")}, false}, {watched{prefix: netip.MustParsePrefix("2001:db8::/32")}, false},
		{watched{events: *cli.NewStringSlice("lift", "ban")}, true}, {watched{events: *cli.NewStringSlice("lift")}, false},
	} {
		if got := tt.w.selects(e); got != tt.want {
			t.Errorf("%+v selects it: %v, want %v", tt.w, got, tt.want)
		}
	}
	if (&watched{prefix: netip.MustParsePrefix("203.0.113.0/24")}).selects(control.Event{Event: "leader"}) {
		t.Error("an event without a prefix is about one")
	}
}
