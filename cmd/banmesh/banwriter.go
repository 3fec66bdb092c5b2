package main

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"

	"banmesh/mesh/blocklist"
	"banmesh/mesh/control"
)

// The formats of a list.
const (
	formatTable = "table"
	formatPlain = "plain"
	formatCSV   = "csv"
	formatJSON  = "json"
)

// banWriter writes bans for programs, one after the other, and then the end.
type banWriter struct {
	write func(control.Ban) error
	end   func() error
}

// newBanWriter is shared by export and list -o, so that import reads both.
func newBanWriter(format string, out *bufio.Writer) (banWriter, error) {
	switch format {
	case formatPlain:
		return plainWriter(out), nil
	case formatCSV:
		return csvWriter(out)
	case formatJSON:
		return jsonWriter(out), nil
	}
	return banWriter{}, usagef("format %s: want plain, csv or json", control.Show(format))
}

// plainWriter leaves out the length of single addresses, as the lists for other programs do that it is meant
// for.
func plainWriter(out *bufio.Writer) banWriter {
	return banWriter{
		write: func(b control.Ban) error {
			_, err := fmt.Fprintln(out, control.Bare(b.Prefix))
			return err
		},
		end: func() error { return nil },
	}
}

// csvWriter writes a line for each record, after one that names the columns.
func csvWriter(out *bufio.Writer) (banWriter, error) {
	w := csv.NewWriter(out)
	err := w.Write([]string{"prefix", "effective", "committed", "origin", "jail", "start", "until", "failures", "reason", "except"})
	return banWriter{
		write: func(b control.Ban) error {
			except := make([]string, len(b.Except))
			for i, p := range b.Except {
				except[i] = control.Format(p)
			}
			// A prefix that several routers or jails have banned has a line for each of them.
			for _, r := range b.Records {
				// An empty end is none: a word would have to be known by every reader of the column.
				until := ""
				if r.Until != control.Never {
					until = r.Until.String()
				}
				if err := w.Write([]string{b.Prefix, strconv.FormatBool(b.Effective), strconv.FormatBool(b.Committed), blocklist.Cell(r.Origin), blocklist.Cell(r.Jail),
					r.Start.String(), until, strconv.FormatUint(uint64(r.Failures), 10), blocklist.Cell(r.Reason), strings.Join(except, " ")}); err != nil {
					return err
				}
			}
			return nil
		},
		end: func() error {
			w.Flush()
			return w.Error()
		},
	}, err
}

// jsonWriter writes an array with a ban a line, as the agent does.
func jsonWriter(out *bufio.Writer) banWriter {
	var buf []byte
	sep := byte('[')
	return banWriter{
		write: func(b control.Ban) error {
			buf = append(b.AppendJSON(append(buf[:0], sep)), '\n')
			sep = ','
			_, err := out.Write(buf)
			return err
		},
		end: func() error {
			// Nothing was written: an empty array still has to begin.
			if sep == '[' {
				out.WriteByte('[')
			}
			_, err := out.WriteString("]\n")
			return err
		},
	}
}
