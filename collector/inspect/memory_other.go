//go:build !linux

package inspect

import (
	"errors"
	"os"
	"runtime"
	"time"
)

var errUnsupported = errors.New("the memory of another process is read on Linux only, not on " + runtime.GOOS)

// process cannot be had here: no process can be opened.
type process struct{}

func openProcess(int) (*process, error)                 { return nil, errUnsupported }
func (p *process) close()                               {}
func (p *process) file(string) (*os.File, error)        { return nil, errUnsupported }
func (p *process) exe() (exeID, error)                  { return exeID{}, errUnsupported }
func (p *process) entry() (uint64, error)               { return 0, errUnsupported }
func (p *process) alive(exeID) error                    { return errUnsupported }
func (p *process) began(uint64) error                   { return errUnsupported }
func (p *process) readv([]part) (filled int, err error) { return 0, errUnsupported }

// rights are none here.
type rights struct{ machine string }

func readRights() *rights                                     { return &rights{errUnsupported.Error()} }
func (r *rights) reason(instance string, pid, uid int) string { return r.machine }
func (r *rights) missing() string                             { return r.machine }
func refusedByKernel(err error) bool                          { return errors.Is(err, errUnsupported) }
func monotonic() int64                                        { return 0 }
func threadCPU() time.Duration                                { return 0 }
