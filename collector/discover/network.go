package discover

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How old what is known of another network may be. Each costs an entry into it, and a node has hundreds.
const (
	netFresh = 30 * time.Second
	netYoung = time.Minute     // processes that were seen for a shorter time may still be about to listen: their network is looked at in each scan
	netAddrs = 5 * time.Minute // addresses change less often
)

// maxAddrs bounds the addresses of one network that are kept.
const maxAddrs = 256

// network is what is known of one network namespace.
type network struct {
	netTable
	at      time.Time
	addrs   []netip.Addr // its own, loopback too
	addrsAt time.Time
	scan    uint64
}

// entryError says why a network cannot be entered.
type entryError struct{ why string }

func (e *entryError) Error() string { return e.why }

// elsewhere reports whether p lives in another network than the scanner.
func (s *Scanner) elsewhere(p *proc) bool {
	return p.netns != 0 && s.nets.inode != 0 && p.netns != s.nets.inode
}

// network returns what listens in the network that p lives in.
func (s *Scanner) network(p *proc, now time.Time) *network {
	n := s.known[p.netns]
	if n == nil {
		n = &network{}
		s.known[p.netns] = n
	}
	fresh := n.scan == s.scan && p.netns != 0
	if s.elsewhere(p) && p.joined && now.Sub(p.seen) > netYoung && now.Sub(n.at) < netFresh {
		fresh = true
	}
	if !fresh {
		n.netTable, n.at = s.readTable(p), now
	}
	if now.Sub(n.addrsAt) >= netAddrs || n.addrsAt.IsZero() {
		n.addrs, n.addrsAt = s.readAddrs(p.base.PID), now
	}
	n.scan = s.scan
	return n
}

// readTable reads the listening sockets of the network that p lives in, from the kernel where it can be asked there, else from the file that lists every socket.
func (s *Scanner) readTable(p *proc) netTable {
	t := netTable{byInode: map[uint64]listener{}}
	add := func(l listener) {
		t.byInode[l.inode] = l
		// Inodes are not used again soon: mixing and adding them up tells any change.
		h := l.inode * 0x9e3779b97f4a7c15
		t.version += h ^ h>>29
	}
	if !s.noDiag && p.netns != 0 {
		err := error(nil)
		switch {
		case !s.elsewhere(p) && s.nets.inode != 0:
			err = listeners(add)
			s.noDiag = err != nil // a kernel without it
		case s.nets.no == "":
			err = s.nets.inside(context.Background(), p.base.PID, p.netns, func() error { return listeners(add) })
		default:
			err = errors.ErrUnsupported
		}
		if err == nil {
			return t
		}
		clear(t.byInode)
		t.version = 0
	}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := s.readListeners(strconv.Itoa(p.base.PID) + "/net/" + name)
		if err != nil {
			continue // no such family, or gone
		}
		for l := range parseNetTCP(b) {
			add(l)
		}
	}
	return t
}

// readAddrs reads the addresses of the network that pid lives in.
func (s *Scanner) readAddrs(pid int) []netip.Addr {
	name := strconv.Itoa(pid) + "/net/"
	var addrs []netip.Addr
	if b, err := s.fs.read(name+"fib_trie", s.buf); err == nil {
		addrs = parseFibTrie(addrs, b)
	}
	if b, err := s.fs.read(name+"if_inet6", s.buf); err == nil {
		addrs = parseIfInet6(addrs, b)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// parseFibTrie appends the local addresses of /proc/PID/net/fib_trie: a line "|-- ADDRESS" that is followed by one with "/32 host LOCAL".
func parseFibTrie(addrs []netip.Addr, b []byte) []netip.Addr {
	var last netip.Addr
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if rest, ok := bytes.CutPrefix(line, []byte("|-- ")); ok {
			last, _ = netip.ParseAddr(string(rest))
		} else if bytes.Equal(line, []byte("/32 host LOCAL")) && last.IsValid() && len(addrs) < maxAddrs {
			addrs = append(addrs, last)
		}
	}
	return addrs
}

// parseIfInet6 appends the addresses of /proc/PID/net/if_inet6, which start the lines as 32 hex digits.
func parseIfInet6(addrs []netip.Addr, b []byte) []netip.Addr {
	for line := range bytes.Lines(b) {
		digits, _, _ := strings.Cut(string(line), " ")
		raw, err := hex.DecodeString(digits)
		if addr, ok := netip.AddrFromSlice(raw); err == nil && ok && len(raw) == 16 && len(addrs) < maxAddrs {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// Dial returns how to connect to addresses of the network that p lives in, nil where that is the scanner's own, so that anybody can. The function takes literal addresses.
func (s *Scanner) Dial(p *Process) func(ctx context.Context, network, addr string) (net.Conn, error) {
	if p.NetNS == 0 || p.NetNS == s.nets.inode || s.nets.no != "" {
		return nil
	}
	pid, inode := p.PID, p.NetNS
	dialer := &net.Dialer{Timeout: s.cfg.ProbeTimeout}
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		return s.nets.dial(ctx, pid, inode, dialer, addr)
	}
}
