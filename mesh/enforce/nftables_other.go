//go:build !linux

package enforce

import "errors"

// OpenNFTables returns an error: nftables is Linux's.
func OpenNFTables(string, []string) (Driver, error) {
	return nil, errors.New("enforce.driver nftables needs Linux: use none or fail2ban")
}

// Probe returns an error: nftables is Linux's.
func Probe(string) error { return errors.New("nftables is Linux's") }

// KeepCapabilities does nothing: capabilities are Linux's.
func KeepCapabilities() error { return nil }
