package demo

import (
	"os"
	"syscall"
)

// childAttr puts a service into a process group of its own, so that Ctrl-C reaches it through the demo only.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminate does nothing: Windows has no signal for it, the service ends at the end of its standard input.
func terminate(*os.Process) {}

// lowerPriority does nothing: the build runs on one processor anyway.
func lowerPriority(*os.Process) {}

// killGroup kills p and, where there are process groups, all that it started. What is gone already is no error.
func killGroup(p *os.Process) { _ = p.Kill() }
