package main

import (
	"fmt"

	"banmesh/internal/excerpt"
	"banmesh/mesh/doctor"
)

// reportFindings shows what was found, the serious first; well is said where nothing was. Exit 1 where one is serious.
func (c *console) reportFindings(found []doctor.Finding, well string) error {
	if c.json {
		if found == nil {
			// An empty list for programs, and not null.
			found = []doctor.Finding{}
		}
		if err := c.printJSON(found); err != nil {
			return err
		}
	} else {
		c.printFindings(found, well)
	}
	if doctor.AnySerious(found) {
		return exitStatus(exitFailed)
	}
	return nil
}

// printFindings ends with a count, because a long list scrolls away. Notes alone are no trouble, yet then
// well is not said either.
func (c *console) printFindings(found []doctor.Finding, well string) {
	count := make(map[doctor.Severity]int)
	for _, s := range []struct {
		severity doctor.Severity
		colour   colour
	}{{doctor.Serious, red}, {doctor.Warning, yellow}, {doctor.Note, bold}, {doctor.OK, green}} {
		for _, f := range found {
			if f.Severity != s.severity {
				continue
			}
			count[f.Severity]++
			fmt.Fprintf(c.out, "%s %s\n", c.paint(s.colour, string(f.Severity)+":"), f.What)
			if f.Why != "" {
				fmt.Fprintf(c.out, "  why:  %s\n", f.Why)
			}
			if f.Fix != "" {
				fmt.Fprintf(c.out, "  fix:  %s\n", f.Fix)
			}
		}
	}
	if count[doctor.Serious]+count[doctor.Warning]+count[doctor.Note] == 0 {
		fmt.Fprintln(c.out, well)
		return
	}
	fmt.Fprintf(c.out, "%d serious, %s, %s\n", count[doctor.Serious], excerpt.Count(count[doctor.Warning], "warning", "warnings"), excerpt.Count(count[doctor.Note], "note", "notes"))
}
