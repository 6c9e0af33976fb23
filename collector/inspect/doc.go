// Package inspect reads what the Go runtime keeps about itself in the memory of another process: its goroutines with stacks, states and labels, and the heap,
// mutex and block profiles. The process needs no agent and no endpoint, and is neither stopped nor slowed: it is read by process_vm_readv.
//
//	ins, err := inspect.New(inspect.Config{Sink: store})
//	ins.SetTargets(targets) // after every scan
//	err = ins.Run(ctx)      // goroutines and heap once a minute
//	ok, why := ins.Can(process)
//
// What is read changes meanwhile, and may lie. So: a version of Go whose structures are not known by name is refused; every structure is checked for its shape (a
// goroutine points to itself, a bucket's hash is that of its stack); a goroutine whose state, stack pointer or count of runs changed while it was read is
// read again, and counted as running after the third time; lists are walked with a bound and a check for cycles; no length that was read sizes an
// allocation unchecked. A profile either has right names or there is none, with the reason in words.
//
// layout.go has the places of fields for Go 1.18 to 1.26, globals.go finds the runtime's variables by the code that uses them, in stripped and
// position-independent binaries too. Tests compare both with binaries made by each version, and what is read with /debug/pprof of the same process.
//
// Stacks go by the table of stack pointer deltas, as the runtime's own tracebacks, by frame pointers where it has none. A running goroutine's stack is
// only in its processor's registers: it is counted, with the function it began with and the leaf "[running: stack unavailable]".
//
// The methods of Inspector are safe for concurrent use; one snapshot is taken at a time. The package does not import collector, receive or api.
package inspect
