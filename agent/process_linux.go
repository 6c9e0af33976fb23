package agent

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTicks is Linux's USER_HZ, the unit of times in /proc: 100 on every architecture that Go runs on.
const clockTicks = 100

// system fills in what joins this process with one seen from outside its container.
func (p *processInfo) system() {
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		p.BootID = strings.TrimSpace(string(b))
	}
	if fi, err := os.Stat("/proc/self/ns/pid"); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			p.PIDNS = st.Ino
		}
	}
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		p.StartTicks = startTicks(string(b))
	}
	if b, err := os.ReadFile("/proc/uptime"); err == nil && p.StartTicks > 0 {
		up, _, _ := strings.Cut(string(b), " ")
		if secs, err := strconv.ParseFloat(up, 64); err == nil {
			age := time.Duration((secs - float64(p.StartTicks)/clockTicks) * float64(time.Second))
			// A time namespace can shift one clock against the other: believe it only where it makes sense.
			if started := time.Now().Add(-age); age >= 0 && !started.After(loaded.Add(time.Second)) {
				p.Started = started.UnixMilli()
			}
		}
	}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		p.NSPIDs = nsPIDs(string(b))
	}
}

// startTicks reads field 22 of /proc/PID/stat. The command name before it can hold anything, so counting starts at its last parenthesis.
func startTicks(stat string) uint64 {
	_, rest, ok := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}

// nsPIDs reads the NSpid line of /proc/PID/status: the pid in each namespace from the reader's to the innermost.
func nsPIDs(status string) []int {
	_, rest, ok := strings.Cut(status, "\nNSpid:")
	if !ok {
		return nil
	}
	line, _, _ := strings.Cut(rest, "\n")
	var pids []int
	for _, f := range strings.Fields(line) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// containerID finds the container's id in the cgroup (v1), else in the mounts (v2, where the cgroup is just "/").
func containerID() string {
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if id := lastHexID(line); id != "" {
				return id
			}
		}
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		return mountedContainerID(string(b))
	}
	return ""
}

// mountedContainerID reads the id out of the path that the engine mounts over /etc/hostname: …/containers/ID/hostname, or …/sandboxes/… which is the pod's and not meant.
func mountedContainerID(mountinfo string) string {
	for _, line := range strings.Split(mountinfo, "\n") {
		if _, rest, ok := strings.Cut(line, "/containers/"); ok && strings.Contains(line, "/etc/hostname") {
			if id, _, _ := strings.Cut(rest, "/"); isHexID(id) {
				return id
			}
		}
	}
	return ""
}

// lastHexID returns the last 64 hex digits that stand alone in s.
func lastHexID(s string) string {
	parts := strings.FieldsFunc(s, func(c rune) bool { return c == '/' || c == '-' || c == '.' || c == ':' })
	for i := len(parts) - 1; i >= 0; i-- {
		if isHexID(parts[i]) {
			return parts[i]
		}
	}
	return ""
}

func isHexID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
