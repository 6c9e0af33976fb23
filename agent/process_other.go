//go:build !linux

package agent

// system has nothing to add where there is no /proc.
func (p *processInfo) system() {}

func containerID() string { return "" }
