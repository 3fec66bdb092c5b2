package netconfclient

import "errors"

// Sentinels that callers branch on with errors.Is.
var (
	// ErrLogin: the server refused the key or the user. Do not retry soon: devices lock accounts out.
	ErrLogin = errors.New("the server refused the login")
	// ErrHostKey: the server's host key is unknown, changed or revoked. The error is a *HostKeyError.
	ErrHostKey = errors.New("host key of the server is not trusted")
	// ErrKeyFile: the private key cannot be used: absent, open to others, malformed or protected by a passphrase.
	ErrKeyFile = errors.New("private key cannot be used")
	// ErrUnreachable: no connection, or it was lost or timed out.
	ErrUnreachable = errors.New("server is unreachable")
	// ErrProtocol: the server broke the protocol: framing, message-id, XML, size. The connection is closed.
	ErrProtocol = errors.New("server broke the NETCONF protocol")
	// ErrUnknownOutcome: the connection was lost or timed out after an operation that changes running was sent. The operation
	// may still take effect: read running before judging. The connection is closed.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrClosed: the Session is already closed.
	ErrClosed = errors.New("already closed")
)
