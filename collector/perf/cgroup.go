package perf

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// errNoCgroup says that no hierarchy that perf knows is mounted.
var errNoCgroup = errors.New("no cgroup hierarchy with the controller perf_event is mounted here")

// errOutsideCgroup says that a process is outside of the cgroups that can be seen.
var errOutsideCgroup = errors.New("its cgroup lies outside of this cgroup namespace")

// cgroupDir returns the directory of the cgroup in which perf counts a process, from its /proc/PID/cgroup and our /proc/self/mountinfo: that of version 1's controller
// perf_event where it is mounted, else that of version 2.
func cgroupDir(cgroup, mountinfo string) (string, error) {
	v1, v2 := "", ""
	for line := range strings.Lines(cgroup) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, dir, ok2 := strings.Cut(rest, ":")
		switch {
		case !ok || !ok2:
		case controllers == "":
			v2 = dir
		case slices.Contains(strings.Split(controllers, ","), "perf_event"):
			v1 = dir
		}
	}
	for _, try := range []struct {
		dir, fstype, option string
	}{{v1, "cgroup", "perf_event"}, {v2, "cgroup2", ""}} {
		if try.dir == "" {
			continue
		}
		root, point, ok := cgroupMount(mountinfo, try.fstype, try.option)
		if !ok {
			continue
		}
		if strings.HasPrefix(try.dir, "/..") {
			return "", errOutsideCgroup
		}
		dir := try.dir
		if root != "/" { // a part of the hierarchy is mounted
			below, ok := strings.CutPrefix(dir, root)
			if !ok {
				return "", errOutsideCgroup
			}
			dir = below
		}
		return path.Join(point, dir), nil
	}
	return "", errNoCgroup
}

// cgroupMount finds a hierarchy in mountinfo: which directory of it is mounted, and where.
func cgroupMount(mountinfo, fstype, option string) (root, point string, ok bool) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || right[0] != fstype {
			continue
		}
		if option == "" || slices.Contains(strings.Split(right[2], ","), option) {
			return left[3], left[4], true
		}
	}
	return "", "", false
}
