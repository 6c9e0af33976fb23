package capture

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknown says that there is no such capture, or that it is another process's, or that its time is over.
	ErrUnknown = errors.New("there is no such capture to deliver, or its time is over")
	// ErrInvalid says that what was delivered is not what was asked for.
	ErrInvalid = errors.New("the capture is refused")
	// ErrNobody says that no process that can be captured was found.
	ErrNobody = errors.New("no process can be captured")
	// ErrClosing says that the collector is stopping.
	ErrClosing = errors.New("the collector is stopping")
)

// LimitError says that a limit was passed.
type LimitError struct {
	Limit string
	Max   int64
	Got   int64 // 0 where counting stopped
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("limit %s (%d) is passed", e.Limit, e.Max)
}
