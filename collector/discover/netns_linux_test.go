package discover

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// TestListenersAreThoseOfProc compares what the kernel answers with the files that it writes.
func TestListenersAreThoseOfProc(t *testing.T) {
	var want []listener
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Logf("%s: %v", addr, err) // no such family here
			continue
		}
		defer l.Close()
		want = append(want, listener{addr: l.Addr().(*net.TCPAddr).AddrPort()})
	}
	var got []listener
	if err := listeners(func(l listener) { got = append(got, l) }); err != nil {
		t.Skipf("this kernel does not list sockets by netlink: %v", err)
	}
	if len(want) == 0 {
		t.Fatal("nothing could be listened on")
	}
	for _, w := range want {
		addr := netip.AddrPortFrom(w.addr.Addr().Unmap(), w.addr.Port())
		if !slices.ContainsFunc(got, func(l listener) bool { return l.addr == addr && l.inode != 0 }) {
			t.Errorf("%v is not among %v", addr, got)
		}
	}
}

// FuzzParseDiag gives any bytes to the parser of the kernel's answer.
func FuzzParseDiag(f *testing.F) {
	msg := make([]byte, 88)
	msg[0], msg[4], msg[16], msg[17], msg[20], msg[24], msg[84] = 88, diagByFamily, 2, 10, 0x1f, 127, 7
	f.Add(msg)
	f.Add([]byte{20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseDiag(b, func(l listener) {
			if l.inode == 0 || !l.addr.Addr().IsValid() {
				t.Errorf("listener %+v", l)
			}
		}); err != nil {
			return
		}
	})
}
