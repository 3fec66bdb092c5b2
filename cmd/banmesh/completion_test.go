package main

import (
	"slices"
	"testing"
)

// A holder of the gossip key chooses names, and what is completed is run.
func TestNoNameIsCompletedThatWouldBeReadAsMore(t *testing.T) {
	names := []string{"router1", "--socket=x", "-f", "a b", "$(x)", "a-b", "SHA256:+/="}
	if got, want := slices.DeleteFunc(names, misread), []string{"router1", "a-b", "SHA256:+/="}; !slices.Equal(got, want) {
		t.Errorf("%q are offered, want %q", got, want)
	}
}

// What is typed of an address narrows what is asked of the agent, which returns only the first of many bans.
func TestCompletionAsksForWhatHasBeenTyped(t *testing.T) {
	for typed, want := range map[string]string{
		"": "invalid Prefix", "2": "invalid Prefix", "25": "invalid Prefix", "26": "26.0.0.0/8", "203": "203.0.0.0/8", "256": "invalid Prefix",
		"203.": "203.0.0.0/8", "203.0": "203.0.0.0/8", "203.99": "203.99.0.0/16", "203.0.113.": "203.0.113.0/24", "203.0.113.77": "203.0.113.0/24",
		"2001:db8": "invalid Prefix", "1.2.3.4.5": "invalid Prefix",
	} {
		if got := beginning(typed).String(); got != want {
			t.Errorf("%q asks for %s, want %s", typed, got, want)
		}
	}
}
