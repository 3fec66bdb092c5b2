// Package netconfdtest starts Debian's netconfd behind OpenSSH for a test: a NETCONF server that nobody here wrote.
package netconfdtest
