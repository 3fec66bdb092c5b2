package e2e

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)

// TestTheThreatTableNamesTestsThatExist reads SECURITY.md as a promise: each row
// of its table has a bound and names tests, and there are tests of these names.
func TestTheThreatTableNamesTestsThatExist(t *testing.T) {
	const top = "../../.."
	exists := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range function.FindAllStringSubmatch(fileText(t, path), -1) {
				exists[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text := fileText(t, filepath.Join(top, "SECURITY.md"))
	rows := 0
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || strings.HasPrefix(line, "| threat") || strings.HasPrefix(line, "| **") {
			continue
		}
		rows++
		if strings.TrimSpace(cells[1]) == "" || !testName.MatchString(cells[2]) {
			t.Errorf("no bound or no test in: %s", line)
		}
		if left := strings.Trim(testName.ReplaceAllString(cells[2], ""), " ,\n"); left != "" {
			t.Errorf("%q is no name of a test, in: %s", left, line)
		}
	}
	if rows < 40 {
		t.Errorf("only %d threats were read", rows)
	}
	for _, name := range testName.FindAllString(text, -1) {
		if !exists[name] {
			t.Errorf("SECURITY.md names %s, which does not exist", name)
		}
	}
	for _, words := range shown(text) {
		if r := command(t, nil, askHelp(words)...); r.code != 0 {
			t.Errorf("SECURITY.md shows `banmesh %s`: %s", strings.Join(words, " "), r.err)
		}
	}
	if !strings.Contains(fileText(t, filepath.Join(top, "README.md")), "(SECURITY.md)") {
		t.Error("README.md does not lead to SECURITY.md")
	}
}
