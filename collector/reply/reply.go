// Package reply writes the JSON answers and errors of the HTTP API, so that every endpoint's errors look alike.
//
// It holds no state and imports only the standard library.
package reply

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Error is an answer other than 200, and the Go error that carries it there. Its JSON form is documented in ARCHITECTURE.md.
type Error struct {
	Status     int    `json:"-"`
	Message    string `json:"error"`
	Limit      string `json:"limit,omitempty"` // the setting or constant that was passed
	Max        int64  `json:"max,omitempty"`
	Got        int64  `json:"got,omitempty"` // 0 where counting stopped at the limit
	Hint       string `json:"hint,omitempty"`
	RetryAfter int    `json:"-"` // seconds; 0: no Retry-After header
	Cause      error  `json:"-"` // for the log only
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Cause }

// Errorf returns an Error with a formatted message.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// JSON answers 200 with v.
func JSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		Fail(w, fmt.Errorf("encode answer: %w", err))
		return
	}
	Raw(w, b)
}

// Raw answers 200 with b, which is JSON.
func Raw(w http.ResponseWriter, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// A client that is gone is nobody to tell.
	_, _ = w.Write(append(b, '\n'))
}

// Fail answers with err: as it says where it is an *Error, else 500 without the details, which are for the log.
func Fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Status: http.StatusInternalServerError, Message: "internal error", Hint: "the collector's log has the details"}
	}
	b, err := json.Marshal(e)
	if err != nil {
		b = []byte(`{"error":"internal error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(b, '\n'))
}
