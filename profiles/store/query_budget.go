package store

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// budget is what one query may take of the machine, and what it has taken so far. Memory is counted, not measured: what the query itself holds. Not safe for concurrent use.
type budget struct {
	maxCPU    time.Duration // 0: no limit
	maxMemory int64         // 0: no limit
	startCPU  time.Duration
	checks    int
	memory    int64
}

// newBudget starts a query on this goroutine, which stays on its thread until done, so that the thread's CPU time is the query's.
func (s *Store) newBudget() *budget {
	runtime.LockOSThread()
	return &budget{maxCPU: s.cfg.QueryCPU, maxMemory: s.cfg.QueryMemory, startCPU: threadCPU()}
}

func (b *budget) done() { runtime.UnlockOSThread() }

// check ends a query whose context ended, or that took too much CPU time. Asking for the time is a system call: it is made for every 16th chunk.
func (b *budget) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.checks++; b.maxCPU <= 0 || b.checks%16 != 0 {
		return nil
	}
	return b.checkCPU()
}

func (b *budget) checkCPU() error {
	if used := threadCPU() - b.startCPU; used > b.maxCPU {
		return &LimitError{Limit: "query_cpu", Max: b.maxCPU.Milliseconds(), Got: used.Milliseconds(), What: fmt.Sprintf("the query takes more than %s of CPU time", b.maxCPU)}
	}
	return nil
}

// take counts n bytes that the query is about to hold.
func (b *budget) take(n int64) error {
	b.memory += n
	if b.maxMemory > 0 && b.memory > b.maxMemory {
		return &LimitError{Limit: "query_memory", Max: b.maxMemory, Got: b.memory, What: fmt.Sprintf("the query takes more than %d bytes of memory", b.maxMemory)}
	}
	return nil
}

// grow makes s at least n long; what is new is zero.
func grow[T any](b *budget, s []T, n int, size int64) ([]T, error) {
	if n <= len(s) {
		return s, nil
	}
	if n > cap(s) {
		if err := b.take(int64(n-len(s)) * size); err != nil {
			return s, err
		}
	}
	return append(s, make([]T, n-len(s))...), nil
}
