package nearest

import (
	"strings"
	"testing"
)

func TestWord(t *testing.T) {
	known := []string{"status", "stats", "list", "ban", "unban", "never_ban", "max_addresses"}
	for given, want := range map[string]string{
		"statsu":       "status", // swapped with its neighbour
		"sttas":        "stats",
		"stat":         "stats",
		"statu":        "status",
		"Lsit":         "list",
		"ls":           "list",
		"bann":         "ban",
		"maxadresses":  "max_addresses",
		"max_adress":   "max_addresses",
		"xyz":          "",
		"":             "",
		"conductor":    "",
		"never_banned": "never_ban",

		strings.Repeat("a", longest+1): "",
	} {
		if got := Word(known, given); got != want {
			t.Errorf("Word(%q) = %q, want %q", given, got, want)
		}
	}
}

// A short word is not one that has little in common with it.
func TestWordDiffersByHalfOfItself(t *testing.T) {
	if got := Word([]string{"ban"}, "bxy"); got != "" {
		t.Errorf("Word(bxy) = %q, want none", got)
	}
}

func TestWordPrefersWhatTheGivenOneBegins(t *testing.T) {
	if got := Word([]string{"mist", "lists"}, "list"); got != "lists" {
		t.Errorf("Word(list) = %q, want lists", got)
	}
}
