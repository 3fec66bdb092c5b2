//go:build !linux

package enforce

import "errors"

// OpenNFTables returns an error: nftables is Linux's.
func OpenNFTables(string) (Driver, error) {
	return nil, errors.New("enforce.driver nftables needs Linux: use none or fail2ban")
}

// KeepCapabilities does nothing: capabilities are Linux's.
func KeepCapabilities() error { return nil }
