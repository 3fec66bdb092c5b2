package main

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// cell is a word of a table and its colour.
type cell struct {
	text  string
	paint colour
}

// table aligns its columns; the colours do not count in the width.
type table struct {
	rows [][]cell
}

// head is an ordinary row in bold, so that its names count in the widths.
func (t *table) head(names ...string) {
	row := make([]cell, len(names))
	for i, n := range names {
		row[i] = cell{n, bold}
	}
	t.rows = append(t.rows, row)
}

func (t *table) row(cells ...cell) { t.rows = append(t.rows, cells) }

// write prints the table; paint colours a cell or leaves it.
func (t *table) write(to io.Writer, paint func(colour, string) string) error {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			// In runes, since reasons and comments need not be ASCII.
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	out := bufio.NewWriter(to)
	for _, row := range t.rows {
		// Empty cells at the end would leave blanks there.
		for len(row) > 0 && row[len(row)-1].text == "" {
			row = row[:len(row)-1]
		}
		for i, c := range row {
			out.WriteString(paint(c.paint, c.text))
			if i < len(row)-1 {
				out.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		out.WriteByte('\n')
	}
	return out.Flush()
}
