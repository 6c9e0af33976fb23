//go:build !linux

package discover

import (
	"errors"
	"fmt"
)

// procfs cannot be opened here: there is no /proc.
type procfs struct{ root string }

type exeKey struct {
	dev, ino uint64
	mtime    int64
}

func openProc(string) (*procfs, error) {
	return nil, fmt.Errorf("discover processes: %w on this system: it needs Linux's /proc", errors.ErrUnsupported)
}

func (p *procfs) close() error                               { return nil }
func (p *procfs) pids([]int) ([]int, error)                  { return nil, errors.ErrUnsupported }
func (p *procfs) exe(int) (exeKey, error)                    { return exeKey{}, errors.ErrUnsupported }
func (p *procfs) statFile(string) (exeKey, error)            { return exeKey{}, errors.ErrUnsupported }
func (p *procfs) namespace(string, string) (uint64, error)   { return 0, errors.ErrUnsupported }
func (p *procfs) read(string, []byte) ([]byte, error)        { return nil, errors.ErrUnsupported }
func (p *procfs) sockets(int, func(inode uint64) bool) error { return errors.ErrUnsupported }
func (p *procfs) portFile(int, string) ([]byte, error)       { return nil, errors.ErrUnsupported }
func (p *procfs) readUntil(string, []byte, func([]byte) bool) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
