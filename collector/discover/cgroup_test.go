package discover

import (
	"strings"
	"testing"
)

var (
	idA = strings.Repeat("ab", 32)
	idB = strings.Repeat("12", 32)
)

const (
	uidDashes = "1f3c9a52-7d7e-4d5b-9c7e-0a1b2c3d4e5f"
	uidUnders = "1f3c9a52_7d7e_4d5b_9c7e_0a1b2c3d4e5f"
	uidStatic = "e5ad1a8ee9c31ea2f4d4bd4bdbb0e5cd"
)

// TestParsePlace has the lines that container runtimes and init systems really write, on cgroup v1 and v2, as seen from the host and from a container beside.
func TestParsePlace(t *testing.T) {
	v1 := func(path string) string {
		var b strings.Builder
		for _, c := range []string{"12:pids", "11:memory", "10:cpu,cpuacct", "5:devices", "1:name=systemd"} {
			b.WriteString(c + ":" + path + "\n")
		}
		return b.String() + "0::/system.slice/containerd.service\n"
	}
	v2 := func(path string) string { return "0::" + path + "\n" }
	for _, tt := range []struct {
		name, cgroup, mounts string
		want                 place
	}{
		{"docker, systemd driver, v2", v2("/system.slice/docker-" + idA + ".scope"), "", place{cgroup: "/system.slice/docker-" + idA + ".scope", containerID: idA}},
		{"docker, cgroupfs driver, v1", v1("/docker/" + idA), "", place{cgroup: "/docker/" + idA, containerID: idA}},
		{"docker rootless", v2("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + idA + ".scope"), "",
			place{cgroup: "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + idA + ".scope", containerID: idA}},
		{"docker in docker", v2("/docker/" + idA + "/docker/" + idB), "", place{cgroup: "/docker/" + idA + "/docker/" + idB, containerID: idB}},
		{"systemd in docker", v1("/docker/" + idA + "/system.slice/cart.service"), "", place{cgroup: "/docker/" + idA + "/system.slice/cart.service", containerID: idA}},
		{"podman", v2("/machine.slice/libpod-" + idA + ".scope/container"), "", place{cgroup: "/machine.slice/libpod-" + idA + ".scope/container", containerID: idA}},
		{"podman, cgroupfs", v1("/libpod_parent/libpod-" + idA), "", place{cgroup: "/libpod_parent/libpod-" + idA, containerID: idA}},
		{"podman rootless", v2("/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope"), "",
			place{cgroup: "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope", containerID: idA}},
		{"podman's monitor is not in it", v2("/machine.slice/libpod-conmon-" + idA + ".scope"), "", place{cgroup: "/machine.slice/libpod-conmon-" + idA + ".scope"}},
		{"containerd in kubernetes, systemd driver", v2("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidUnders + ".slice/cri-containerd-" + idA + ".scope"), "",
			place{cgroup: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidUnders + ".slice/cri-containerd-" + idA + ".scope", containerID: idA, podUID: uidDashes}},
		{"containerd in kubernetes, guaranteed", v2("/kubepods.slice/kubepods-pod" + uidUnders + ".slice/cri-containerd-" + idA + ".scope"), "",
			place{cgroup: "/kubepods.slice/kubepods-pod" + uidUnders + ".slice/cri-containerd-" + idA + ".scope", containerID: idA, podUID: uidDashes}},
		{"containerd in kubernetes, cgroupfs driver", v1("/kubepods/besteffort/pod" + uidDashes + "/" + idA), "",
			place{cgroup: "/kubepods/besteffort/pod" + uidDashes + "/" + idA, containerID: idA, podUID: uidDashes}},
		{"containerd, cgroups named with colons", v2("/system.slice/containerd.service/kubepods-besteffort-pod" + uidUnders + ".slice:cri-containerd:" + idA), "",
			place{cgroup: "/system.slice/containerd.service/kubepods-besteffort-pod" + uidUnders + ".slice:cri-containerd:" + idA, containerID: idA, podUID: uidDashes}},
		{"nerdctl", v1("/default/" + idA), "", place{cgroup: "/default/" + idA, containerID: idA}},
		{"CRI-O", v2("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidUnders + ".slice/crio-" + idA + ".scope/container"), "",
			place{cgroup: "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidUnders + ".slice/crio-" + idA + ".scope/container", containerID: idA, podUID: uidDashes}},
		{"CRI-O's monitor", v2("/kubepods.slice/kubepods-pod" + uidUnders + ".slice/crio-conmon-" + idA + ".scope"), "",
			place{cgroup: "/kubepods.slice/kubepods-pod" + uidUnders + ".slice/crio-conmon-" + idA + ".scope", podUID: uidDashes}},
		{"static pod", v2("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidStatic + ".slice/cri-containerd-" + idA + ".scope"), "",
			place{cgroup: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidStatic + ".slice/cri-containerd-" + idA + ".scope", containerID: idA, podUID: uidStatic}},
		{"kind, v2", v2("/docker/" + idB + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + uidUnders + ".slice/cri-containerd-" + idA + ".scope"), "",
			place{cgroup: "/docker/" + idB + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + uidUnders + ".slice/cri-containerd-" + idA + ".scope", containerID: idA, podUID: uidDashes}},
		{"kind, v1", v1("/docker/" + idB + "/kubelet/kubepods/burstable/pod" + uidDashes + "/" + idA), "",
			place{cgroup: "/docker/" + idB + "/kubelet/kubepods/burstable/pod" + uidDashes + "/" + idA, containerID: idA, podUID: uidDashes}},
		{"kind's kubelet is in the node", v2("/docker/" + idB + "/kubelet.slice/kubelet.service"), "", place{cgroup: "/docker/" + idB + "/kubelet.slice/kubelet.service", containerID: idB}},
		{"systemd service", v2("/system.slice/cart.service"), "", place{cgroup: "/system.slice/cart.service"}},
		{"systemd service, hybrid", "5:memory:/system.slice/cart.service\n1:name=systemd:/system.slice/cart.service\n0::/system.slice/cart.service\n", "", place{cgroup: "/system.slice/cart.service"}},
		{"systemd template with a colon", v2("/system.slice/system-cart.slice/cart@a:b.service"), "", place{cgroup: "/system.slice/system-cart.slice/cart@a:b.service"}},
		{"user session", v2("/user.slice/user-1000.slice/session-2.scope"), "", place{cgroup: "/user.slice/user-1000.slice/session-2.scope"}},
		{"root", v2("/"), "", place{cgroup: "/"}},
		{"memory on v1, the rest elsewhere", "11:memory:/a\n4:cpu:/docker/" + idA + "\n0::/\n", "", place{cgroup: "/a", containerID: idA}},
		{"from a container beside: the upper part is hidden", v2("/../cri-containerd-" + idA + ".scope"), mounts("/var/lib/kubelet/pods/" + uidDashes + "/etc-hosts /etc/hosts"),
			place{cgroup: "/../cri-containerd-" + idA + ".scope", containerID: idA, podUID: uidDashes}},
		{"cgroup namespace, docker", v2("/"), mounts("/var/lib/docker/containers/"+idA+"/resolv.conf /etc/resolv.conf", "/var/lib/docker/containers/"+idA+"/hostname /etc/hostname"), place{cgroup: "/", containerID: idA}},
		{"cgroup namespace, docker on a data disk", v2("/"), mounts("/docker/containers/" + idA + "/hostname /etc/hostname"), place{cgroup: "/", containerID: idA}},
		{"cgroup namespace, podman", v2("/"), mounts("/containers/storage/overlay-containers/" + idA + "/userdata/hostname /etc/hostname"), place{cgroup: "/", containerID: idA}},
		{"cgroup namespace, kubernetes: the sandbox's files are not the container's", v2("/"), mounts(
			"/var/lib/kubelet/pods/"+uidDashes+"/etc-hosts /etc/hosts", "/var/lib/kubelet/pods/"+uidDashes+"/containers/cart/1a2b3c4d /dev/termination-log",
			"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/"+idB+"/hostname /etc/hostname", "/run/containers/storage/overlay-containers/"+idB+"/userdata/resolv.conf /etc/resolv.conf"),
			place{cgroup: "/", podUID: uidDashes, containerName: "cart"}},
		{"layers are no id", v2("/"), "620 500 0:5 / / rw - overlay overlay upperdir=/var/lib/docker/overlay2/" + idB + "/diff\n", place{cgroup: "/"}},
		{"a volume of another pod says nothing", v2("/"), mounts("/var/lib/kubelet/pods/" + uidDashes + "/volumes/x /data"), place{cgroup: "/"}},
		{"65 digits", v2("/" + idA + "a"), "", place{cgroup: "/" + idA + "a"}},
		{"a folder named like a pod", v2("/podman.slice/pod-cart"), "", place{cgroup: "/podman.slice/pod-cart"}},
		{"not a cgroup file", "hello\n::\n0:\n0::relative\n", "", place{}},
		{"empty", "", "", place{}},
	} {
		if got := parsePlace([]byte(tt.cgroup), func() []byte { return []byte(tt.mounts) }); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

// mounts makes lines of mountinfo of "root mountpoint" pairs.
func mounts(pairs ...string) string {
	var b strings.Builder
	for _, p := range pairs {
		b.WriteString("631 620 254:1 " + p + " rw,relatime - ext4 /dev/vda rw\n")
	}
	return b.String()
}

// FuzzParsePlace gives any bytes to the parsers of cgroup and mountinfo.
func FuzzParsePlace(f *testing.F) {
	f.Add([]byte("0::/docker/"+idA+"\n"), []byte(mounts("/docker/containers/"+idA+"/hostname /etc/hostname")))
	f.Add([]byte("11:memory:/kubepods/besteffort/pod"+uidDashes+"/"+idA+"\n"), []byte(mounts("/p/pods/"+uidDashes+"/containers/c/1a /dev/termination-log")))
	f.Add([]byte("0::/kubepods.slice/kubepods-pod"+uidUnders+".slice/crio-"+idA+".scope\n"), []byte{})
	f.Fuzz(func(t *testing.T, cgroup, mountinfo []byte) {
		p := parsePlace(cgroup, func() []byte { return mountinfo })
		if p.containerID != "" && (len(p.containerID) != 64 || !isHex(p.containerID)) {
			t.Errorf("container id %q", p.containerID)
		}
		if p.podUID != "" && !isUID(p.podUID) {
			t.Errorf("pod uid %q", p.podUID)
		}
		if p.cgroup != "" && (p.cgroup[0] != '/' || strings.Contains(p.cgroup, "\n")) {
			t.Errorf("cgroup %q", p.cgroup)
		}
		if len(p.containerName) > 253 {
			t.Errorf("container name of %d bytes", len(p.containerName))
		}
	})
}
