//go:build unix && !linux

package demo

import (
	"os"
	"syscall"
)

// childAttr puts a service into a process group of its own, so that Ctrl-C reaches it through the demo only.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) { _ = p.Signal(syscall.SIGTERM) }

// lowerPriority makes the process group of p yield the CPU to everything else.
func lowerPriority(p *os.Process) { _ = syscall.Setpriority(syscall.PRIO_PGRP, p.Pid, 19) }

// killGroup kills p and, where there are process groups, all that it started. What is gone already is no error.
func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
