// Package e2e tests the program as its users run it: agents as processes, a
// real fail2ban, a NETCONF server that is not ours. It holds tests only.
package e2e
