package agent

import (
	"strings"
	"testing"
)

func TestStartTicks(t *testing.T) {
	for stat, want := range map[string]uint64{
		"42 (cart) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234567 20 21": 1234567,
		"42 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20 21":  99,
		"42 (cart) S 1": 0, "": 0, ")": 0,
	} {
		if got := startTicks(stat); got != want {
			t.Errorf("%q: %d, want %d", stat, got, want)
		}
	}
}

func TestNSPIDs(t *testing.T) {
	got := nsPIDs("Name:\tcart\nNSpid:\t4711\t7\t1\nNSpgid:\t1\n")
	if len(got) != 3 || got[0] != 4711 || got[2] != 1 {
		t.Errorf("got %v", got)
	}
	if nsPIDs("Name:\tcart\n") != nil {
		t.Error("pids without an NSpid line")
	}
}

func TestContainerIDs(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for line, want := range map[string]string{
		"12:cpu:/docker/" + id: id,
		"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope": id,
		"0::/": "", "0::/user.slice/user-0.slice/session-1.scope": "",
	} {
		if got := lastHexID(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	mount := "1 2 254:1 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
	if got := mountedContainerID("9 9 0:1 / / rw\n" + mount); got != id {
		t.Errorf("mountinfo: %q", got)
	}
}

func TestOwnProcess(t *testing.T) {
	p := &processInfo{Started: loaded.UnixMilli()}
	p.system()
	if p.BootID == "" || p.PIDNS == 0 || p.StartTicks == 0 || len(p.NSPIDs) == 0 {
		t.Errorf("process %+v", p)
	}
	if d := loaded.UnixMilli() - p.Started; d < -1000 || d > 600_000 {
		t.Errorf("started %d ms before package agent was initialised", d)
	}
}

func FuzzProcText(f *testing.F) {
	f.Add("42 (cart) S 1 2 3", "NSpid:\t1")
	f.Fuzz(func(t *testing.T, stat, text string) {
		startTicks(stat)
		nsPIDs(text)
		if id := mountedContainerID(text); id != "" && !isHexID(id) {
			t.Errorf("container id %q", id)
		}
	})
}
