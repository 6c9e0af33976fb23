package discover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// networks enters the network namespaces of other processes. A thread does so for the time of a few system calls and goes back; a socket stays in the network that it
// was made in.
type networks struct {
	root  string
	own   *os.File      // the scanner's network
	inode uint64        // of own
	no    string        // why no other network can be entered, "" if they can
	slots chan struct{} // bounds the threads that are elsewhere
}

// openNetworks finds out once whether other networks can be entered, by entering the one that the scanner is in.
func openNetworks(root string) *networks {
	n := &networks{root: root, slots: make(chan struct{}, 32)}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		n.no = "its own network cannot be told: " + err.Error()
		return n
	}
	n.own = own
	var st unix.Stat_t
	if err := unix.Fstat(int(own.Fd()), &st); err == nil {
		n.inode = st.Ino
	}
	err = n.enter(context.Background(), own, func() error { return nil })
	switch {
	case isEntry(err):
		n.no = "entering it needs CAP_SYS_ADMIN"
	case err != nil:
		n.no = "it cannot be entered: " + err.Error()
	}
	return n
}

func isEntry(err error) bool {
	_, ok := errors.AsType[*entryError](err)
	return ok
}

func (n *networks) close() {
	if n.own != nil {
		n.own.Close()
	}
}

// inside calls f in the network of process pid, if that is still the one with this inode.
func (n *networks) inside(ctx context.Context, pid int, inode uint64, f func() error) error {
	ns, err := os.Open(filepath.Join(n.root, strconv.Itoa(pid), "ns/net"))
	if errors.Is(err, os.ErrPermission) {
		return &entryError{"entering its network namespace needs CAP_SYS_PTRACE"}
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return err
	}
	if st.Ino != inode {
		return fmt.Errorf("enter network of process %d: it is in another one by now", pid)
	}
	return n.enter(ctx, ns, f)
}

// enter calls f on a thread that is in network ns. A thread that does not find back dies with its goroutine.
func (n *networks) enter(ctx context.Context, ns *os.File, f func() error) error {
	select {
	case n.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error)
	go func() {
		defer func() { <-n.slots }()
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			runtime.UnlockOSThread()
			if errors.Is(err, unix.EPERM) {
				err = &entryError{"entering its network namespace needs CAP_SYS_ADMIN over it"}
			}
			done <- err
			return
		}
		err = f()
		if unix.Setns(int(n.own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// dial connects to a literal address in the network of process pid: names would be looked up on other threads.
func (n *networks) dial(ctx context.Context, pid int, inode uint64, d *net.Dialer, addr string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial in network of process %d: %w", pid, err)
	}
	err = n.inside(ctx, pid, inode, func() (err error) {
		conn, err = d.DialContext(ctx, "tcp", addr)
		return err
	})
	return conn, err
}

// listeners asks the kernel for the listening TCP sockets of the calling thread's network. Unlike /proc/net/tcp, whose end lies behind every connection of the machine, this costs what
// there are of listeners.
func listeners(yield func(listener)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The kernel answers at once; the limit is for one that never does.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := unix.Sendto(fd, diagRequest(family), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		for more := true; more; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			if more, err = parseDiag(buf[:n], yield); err != nil {
				return err
			}
		}
	}
	return nil
}

const diagByFamily = 20 // SOCK_DIAG_BY_FAMILY

// diagRequest asks for every listening TCP socket of a family: a struct nlmsghdr and a struct inet_diag_req_v2.
func diagRequest(family byte) []byte {
	b := make([]byte, 16+56)
	ne := binary.NativeEndian
	ne.PutUint32(b, uint32(len(b)))
	ne.PutUint16(b[4:], diagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b[16], b[17] = family, unix.IPPROTO_TCP
	ne.PutUint32(b[20:], 1<<10) // TCP_LISTEN
	return b
}

// parseDiag reads one datagram of the answer: messages of a struct nlmsghdr and a struct inet_diag_msg. more says that there are further datagrams.
func parseDiag(b []byte, yield func(listener)) (more bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= 16 {
		size := int(ne.Uint32(b))
		if size < 16 || size > len(b) {
			return false, errMalformed
		}
		body := b[16:size]
		switch ne.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return false, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errMalformed
			}
			return false, unix.Errno(-int32(ne.Uint32(body)))
		case diagByFamily:
			if len(body) < 72 {
				return false, errMalformed
			}
			n := 4
			if body[0] == unix.AF_INET6 {
				n = 16
			}
			addr, _ := netip.AddrFromSlice(body[8 : 8+n])
			l := listener{inode: uint64(ne.Uint32(body[68:])), addr: netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(body[4:]))}
			if l.inode != 0 && body[1] == 10 {
				yield(l)
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return true, nil
}
