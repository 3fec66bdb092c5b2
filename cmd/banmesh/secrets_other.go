//go:build !linux

package main

// keepSecrets does nothing: agents run on Linux.
func keepSecrets() {}
