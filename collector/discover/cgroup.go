package discover

import (
	"bytes"
	"strings"
)

// place is where a process lives, as far as its cgroups and mounts tell.
type place struct {
	cgroup        string // path of its memory cgroup
	containerID   string
	podUID        string
	containerName string // of a pod's container, where a mount tells it
}

// parsePlace reads /proc/PID/cgroup, and mountinfo for what that leaves open: a cgroup namespace hides the upper part of the path. mountinfo is called at most once.
func parsePlace(cgroup []byte, mountinfo func() []byte) place {
	var p place
	var named place // of the deepest path that names a container or a pod: on cgroup v1 controllers may be mounted apart
	for line := range bytes.Lines(cgroup) {
		// hierarchy:controllers:path; v2 is "0::path". The path may hold colons.
		f := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		switch {
		case hasController(f[1], "memory"):
			p.cgroup = f[2]
		case f[1] == "" && p.cgroup == "":
			p.cgroup = f[2]
		}
		at := parsePath(f[2])
		if at.containerID != "" && named.containerID == "" || named == (place{}) {
			named = at
		}
	}
	p.containerID, p.podUID = named.containerID, named.podUID
	if p.containerID == "" || p.podUID == "" {
		p.fromMounts(mountinfo())
	}
	return p
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

// parsePath reads what the segments of a cgroup's path name. In nested containers (kind) the innermost counts.
func parsePath(path string) (p place) {
	// containerd without systemd's help names "SLICE:cri-containerd:ID".
	for _, seg := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == ':' }) {
		if uid := podUID(seg); uid != "" {
			p.podUID, p.containerID = uid, "" // what is above a pod is the node that it runs in
		} else if id := segmentID(seg); id != "" {
			p.containerID = id
		}
	}
	return p
}

// podUID reads the segment of a pod: "pod<uid>" below kubepods with the kubelet's cgroupfs driver, "…-pod<uid>.slice" with underscores for dashes with its systemd
// driver. A static pod's uid is 32 hex digits.
func podUID(seg string) string {
	uid, ok := strings.CutPrefix(seg, "pod")
	if slice, isSlice := strings.CutSuffix(seg, ".slice"); isSlice {
		i := strings.LastIndex(slice, "-pod")
		if i < 0 || !strings.Contains(slice, "kubepods") {
			return ""
		}
		uid, ok = strings.ReplaceAll(slice[i+len("-pod"):], "_", "-"), true
	}
	if !ok || !isUID(uid) {
		return ""
	}
	return uid
}

// isUID reports whether s is a UUID with dashes, or 32 hex digits.
func isUID(s string) bool {
	switch len(s) {
	case 36:
		return s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
			isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
	case 32:
		return isHex(s)
	}
	return false
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

// segmentID finds a container's id in a segment: alone, or as "docker-ID.scope", "cri-containerd-ID.scope", "crio-ID.scope", "libpod-ID.scope". What watches a
// container from outside (conmon) is not in it.
func segmentID(seg string) string {
	if strings.Contains(seg, "conmon-") {
		return ""
	}
	return lastHex64([]byte(seg))
}

// fromMounts takes what the mounts of a container's own files tell: Docker's and Podman's folder of the container, the kubelet's folder of the pod.
func (p *place) fromMounts(mountinfo []byte) {
	id := ""
	for line := range bytes.Lines(mountinfo) {
		// The fourth field is the mounted folder's path within its file system, the fifth where it is seen.
		f := strings.Fields(string(line))
		if len(f) < 5 {
			continue
		}
		root, at := f[3], f[4]
		if p.podUID == "" || p.containerName == "" {
			uid, name := kubeletMount(root)
			if uid != "" && (p.podUID == "" || p.podUID == uid) && (at == "/etc/hosts" || at == "/dev/termination-log") {
				p.podUID = uid
				if name != "" {
					p.containerName = name
				}
			}
		}
		if id == "" && (at == "/etc/hostname" || at == "/etc/resolv.conf" || at == "/etc/hosts") && strings.Contains(root, "containers/") {
			id = lastHex64([]byte(root))
		}
	}
	if p.podUID == "" && p.containerID == "" {
		p.containerID = id // in a pod these are the files of the pod's sandbox
	}
}

// kubeletMount reads "…/pods/UID/etc-hosts" and "…/pods/UID/containers/NAME/HEX", which is mounted for the termination message.
func kubeletMount(root string) (uid, container string) {
	_, rest, ok := strings.Cut(root, "/pods/")
	if !ok {
		return "", ""
	}
	f := strings.Split(rest, "/")
	if !isUID(f[0]) || len(f) < 2 {
		return "", ""
	}
	switch {
	case f[1] == "etc-hosts":
		return f[0], ""
	case f[1] == "containers" && len(f) == 4 && len(f[2]) <= 253:
		return f[0], f[2]
	}
	return "", ""
}

// lastHex64 returns the last run of exactly 64 hex digits, "" if there is none.
func lastHex64(b []byte) string {
	found := ""
	run := 0
	for i := 0; i <= len(b); i++ {
		if i < len(b) && (b[i] >= '0' && b[i] <= '9' || b[i] >= 'a' && b[i] <= 'f') {
			run++
			continue
		}
		if run == 64 {
			found = string(b[i-64 : i])
		}
		run = 0
	}
	return found
}
