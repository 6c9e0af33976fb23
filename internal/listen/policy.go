package listen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
)

// minToken is the least length of a token, in bytes: shorter ones can be guessed at the rate that a server answers.
const minToken = 16

// ErrOpen says that an address would let strangers in.
var ErrOpen = errors.New("address is not loopback and not protected")

// Policy says where to listen and who may come in.
type Policy struct {
	Address     string // HOST:PORT, or unix:PATH; or several of these with commas between them
	Token       string // bearer token that requests must carry; empty: that in TokenFile
	TokenFile   string // file with the token; empty: none is asked for
	TLSCertFile string // PEM; goes with TLSKeyFile. Read again when it changes
	TLSKeyFile  string // PEM
	Insecure    bool   // allow any address without token or TLS
	// SocketMode is the permissions of Unix sockets; 0: only this user may open them. The directory guards them too.
	SocketMode fs.FileMode
}

// Error is an error with what cures it.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what cures the error.
func (e *Error) Hint() string { return e.Cure }

func fail(cure, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Cure: cure}
}

// Check returns an *Error unless p is complete and closed enough. It reads no file.
func (p Policy) Check() error {
	for _, one := range p.each() {
		if err := one.checkOne(); err != nil {
			return err
		}
	}
	return nil
}

// each returns the policy of every address by itself.
func (p Policy) each() []Policy {
	var out []Policy
	for address := range strings.SplitSeq(p.Address, ",") {
		one := p
		one.Address = strings.TrimSpace(address)
		out = append(out, one)
	}
	return out
}

func (p Policy) checkOne() error {
	if p.isUnix() {
		if strings.TrimPrefix(p.Address, unixPrefix) == "" {
			return fail("name the socket, such as unix:/run/sonde/sonde.sock", "listen on %q: no path", p.Address)
		}
	} else if _, _, err := net.SplitHostPort(p.Address); err != nil {
		return fail("give HOST:PORT, such as 127.0.0.1:7070, or unix:PATH", "listen on %q: %w", p.Address, err)
	}
	if (p.TLSCertFile == "") != (p.TLSKeyFile == "") {
		return fail("give both, or none for plain HTTP", "listen on %s: the TLS certificate and its key go together, only one is set", p.Address)
	}
	if p.isLocal() || p.Insecure {
		return nil
	}
	var missing []string
	if !p.hasToken() {
		missing = append(missing, "a token (token_file)")
	}
	if p.TLSCertFile == "" {
		missing = append(missing, "TLS (tls_cert, tls_key)")
	}
	if len(missing) == 0 {
		return nil
	}
	return fail("set what is missing, or listen on 127.0.0.1, or add --insecure where the network itself keeps strangers out",
		"listen on %s: %w: it lacks %s", p.Address, ErrOpen, strings.Join(missing, " and "))
}

const unixPrefix = "unix:"

func (p Policy) isUnix() bool { return strings.HasPrefix(p.Address, unixPrefix) }

func (p Policy) hasToken() bool { return p.Token != "" || p.TokenFile != "" }

func (p Policy) host() string {
	host, _, err := net.SplitHostPort(p.Address)
	if err != nil {
		return ""
	}
	return host
}

// isLocal reports whether the address means this machine alone. An empty host means all interfaces.
func (p Policy) isLocal() bool { return p.isUnix() || isLoopbackName(p.host()) }

// isLoopbackName reports whether host, without a port, is a loopback address or a name that always means one.
func isLoopbackName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// token returns the token that requests must carry, "" for none.
func (p Policy) token() (string, error) {
	token := p.Token
	if token == "" && p.TokenFile != "" {
		b, err := os.ReadFile(p.TokenFile)
		if err != nil {
			return "", fail("write one, such as `openssl rand -hex 32 > "+p.TokenFile+"`", "read token: %w", err)
		}
		if token = string(bytes.TrimSpace(b)); token == "" {
			return "", fail("write one, such as `openssl rand -hex 32 > "+p.TokenFile+"`", "read token: %s is empty", p.TokenFile)
		}
	}
	if token == "" {
		return "", nil
	}
	if len(token) < minToken {
		return "", fail("take a longer one, such as `openssl rand -hex 32`", "token has %d characters, at least %d are needed", len(token), minToken)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fail("take letters and digits, such as `openssl rand -hex 32`", "token has a space or a character that is not ASCII")
	}
	return token, nil
}
