package main

import (
	"flag"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"banmesh/mesh/control"
)

// arguments are a command's words, told apart.
type arguments struct {
	flags []string // --name=value each
	rest  []string // the positional ones
	help  bool
}

// split tells flags from positional arguments wherever they stand; everything after -- is positional. The library that
// parses the flags stops at the first positional one.
func split(known []cli.Flag, args []string) (arguments, error) {
	var a arguments
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			a.rest = append(a.rest, args[i+1:]...)
			break
		}
		// A lone - is an argument: the standard input.
		if len(arg) < 2 || arg[0] != '-' {
			a.rest = append(a.rest, arg)
			continue
		}
		// One dash or two, as package flag takes them.
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if name == "help" || name == "h" {
			a.help = true
			continue
		}
		f := findFlag(known, name)
		if f == nil {
			return a, usagef("unknown flag %s: %s--help lists the known ones", control.Show(arg), didYouMean("--", flagNames(known), name))
		}
		// The next word is the value also if it begins with a dash: --for -1 is a ban without end.
		if _, isBool := f.(*cli.BoolFlag); !isBool && !hasValue {
			if i+1 == len(args) {
				return a, usagef("flag --%s needs a value", name)
			}
			i++
			value, hasValue = args[i], true
		}
		if !hasValue {
			// Package flag reads a value of a boolean flag only behind a =, so all flags are passed on in that
			// form.
			value = "true"
		}
		a.flags = append(a.flags, "--"+name+"="+value)
	}
	return a, nil
}

// flagNames includes help, which no command defines, so that a typing error in it is recognised as well.
func flagNames(known []cli.Flag) (names []string) {
	for _, f := range known {
		names = append(names, f.Names()...)
	}
	return append(names, "help")
}

func findFlag(known []cli.Flag, name string) cli.Flag {
	for _, f := range known {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// words puts the arguments into the order that the flag parsers take.
func (a arguments) words() []string {
	return append(append(a.flags, "--"), a.rest...)
}

// flagError words what a flag's value was refused for.
func flagError(err error) error {
	s := err.Error()
	// From package flag: invalid value "x" for flag -name: why, invalid boolean value "x" for -name: why.
	if head, why, ok := strings.Cut(s, " for flag -"); ok && strings.HasPrefix(head, "invalid value") {
		if name, why, ok := strings.Cut(why, ": "); ok {
			return usagef("--%s: %s", name, why)
		}
	}
	return usagef("%s", s)
}

// parse applies a command's own definition of its flags to its arguments.
func parse(cmd *cli.Command, a arguments) (*flag.FlagSet, error) {
	set := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	// It would print the error, and all flags with it, before it returns either.
	set.SetOutput(io.Discard)
	for _, f := range cmd.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	if err := set.Parse(a.words()); err != nil {
		return nil, flagError(err)
	}
	return set, nil
}
