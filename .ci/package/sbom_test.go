package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The binary of this very test is as good as any.
func TestTheBillListsWhatIsLinked(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&out, &again} {
		if err := write(w, "1.0", binary); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("written twice it is another one")
	}
	var b bom
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Components) != len(info.Deps)+1 || b.Components[0].Name != "std" || b.Metadata.Timestamp != "2026-09-21T14:13:20Z" {
		t.Errorf("%d components for %d modules, at %s: %s", len(b.Components), len(info.Deps), b.Metadata.Timestamp, out.String())
	}
}

func TestLicencesAreRecognizedByTheirWords(t *testing.T) {
	for text, want := range map[string]string{
		"Permission is hereby granted, free\n of charge, to any person":                                                           "MIT",
		"Apache License\nVersion 2.0, January 2004":                                                                               "Apache-2.0",
		"Permission to use, copy, modify, and/or distribute this software for any\npurpose with or without fee is hereby granted": "ISC",
		"Mozilla Public License, version 2.0":                                                                                     "MPL-2.0",
		"Redistribution and use in source and binary forms, with ... Neither the name of":                                         "BSD-3-Clause",
		"Redistribution and use in source and binary forms, with":                                                                 "BSD-2-Clause",
		"Permission is hereby granted, free of charge ... Apache License, Version 2.0":                                            "MIT AND Apache-2.0",
		"All rights reserved.": "",
	} {
		if got := recognize(text); got != want {
			t.Errorf("%q is taken for %q, want %q", text, got, want)
		}
	}
}

func TestWhatIsNoGoBinaryHasNoBill(t *testing.T) {
	if err := write(new(bytes.Buffer), "1.0", "/bin/sh"); err == nil || strings.Contains(err.Error(), "panic") {
		t.Errorf("got %v", err)
	}
}
