// Package cgroup reads the files of Linux's control groups, of both versions: which of them a process is in, where they are mounted, and what their files say.
//
// Files of a cgroup are the kernel's, but what a process sees below its own root may be of its making: Is tells them apart. No more of a file is read than MaxFile.
// The package holds no state.
package cgroup
