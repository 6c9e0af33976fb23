package inspect

import "strings"

// What runtime.waitReason counts, by the version that it came with. A test reads the same from runtime.waitReasonStrings of each version.
var (
	reasons118 = lines(`

GC assist marking
IO wait
chan receive (nil chan)
chan send (nil chan)
dumping heap
garbage collection
garbage collection scan
panicwait
select
select (no cases)
GC assist wait
GC sweep wait
GC scavenge wait
chan receive
chan send
finalizer wait
force gc (idle)
semacquire
sleep
sync.Cond.Wait
timer goroutine (idle)
trace reader (blocked)
wait for GC cycle
GC worker (idle)
preempted
debug call`)
	reasons120 = lines(`

GC assist marking
IO wait
chan receive (nil chan)
chan send (nil chan)
dumping heap
garbage collection
garbage collection scan
panicwait
select
select (no cases)
GC assist wait
GC sweep wait
GC scavenge wait
chan receive
chan send
finalizer wait
force gc (idle)
semacquire
sleep
sync.Cond.Wait
sync.Mutex.Lock
sync.RWMutex.RLock
sync.RWMutex.Lock
trace reader (blocked)
wait for GC cycle
GC worker (idle)
GC worker (active)
preempted
debug call
GC mark termination
stopping the world`)
	reasons122 = lines(`

GC assist marking
IO wait
chan receive (nil chan)
chan send (nil chan)
dumping heap
garbage collection
garbage collection scan
panicwait
select
select (no cases)
GC assist wait
GC sweep wait
GC scavenge wait
chan receive
chan send
finalizer wait
force gc (idle)
semacquire
sleep
sync.Cond.Wait
sync.Mutex.Lock
sync.RWMutex.RLock
sync.RWMutex.Lock
trace reader (blocked)
wait for GC cycle
GC worker (idle)
GC worker (active)
preempted
debug call
GC mark termination
stopping the world
flushing proc caches
trace goroutine status
trace proc status
page trace flush
coroutine`)
	reasons123 = lines(`

GC assist marking
IO wait
chan receive (nil chan)
chan send (nil chan)
dumping heap
garbage collection
garbage collection scan
panicwait
select
select (no cases)
GC assist wait
GC sweep wait
GC scavenge wait
chan receive
chan send
finalizer wait
force gc (idle)
semacquire
sleep
sync.Cond.Wait
sync.Mutex.Lock
sync.RWMutex.RLock
sync.RWMutex.Lock
trace reader (blocked)
wait for GC cycle
GC worker (idle)
GC worker (active)
preempted
debug call
GC mark termination
stopping the world
flushing proc caches
trace goroutine status
trace proc status
page trace flush
coroutine
GC weak to strong wait`)
	reasons124 = lines(`

GC assist marking
IO wait
chan receive (nil chan)
chan send (nil chan)
dumping heap
garbage collection
garbage collection scan
panicwait
select
select (no cases)
GC assist wait
GC sweep wait
GC scavenge wait
chan receive
chan send
finalizer wait
force gc (idle)
semacquire
sleep
sync.Cond.Wait
sync.Mutex.Lock
sync.RWMutex.RLock
sync.RWMutex.Lock
sync.WaitGroup.Wait
trace reader (blocked)
wait for GC cycle
GC worker (idle)
GC worker (active)
preempted
debug call
GC mark termination
stopping the world
flushing proc caches
trace goroutine status
trace proc status
page trace flush
coroutine
GC weak to strong wait
synctest.Run
synctest.Wait
chan receive (synctest)
chan send (synctest)
select (synctest)`)
	reasons125 = lines(`

GC assist marking
IO wait
chan receive (nil chan)
chan send (nil chan)
dumping heap
garbage collection
garbage collection scan
panicwait
select
select (no cases)
GC assist wait
GC sweep wait
GC scavenge wait
chan receive
chan send
finalizer wait
force gc (idle)
GOMAXPROCS updater (idle)
semacquire
sleep
sync.Cond.Wait
sync.Mutex.Lock
sync.RWMutex.RLock
sync.RWMutex.Lock
sync.WaitGroup.Wait
trace reader (blocked)
wait for GC cycle
GC worker (idle)
GC worker (active)
preempted
debug call
GC mark termination
stopping the world
flushing proc caches
trace goroutine status
trace proc status
page trace flush
coroutine
GC weak to strong wait
synctest.Run
synctest.Wait
chan receive (durable)
chan send (durable)
select (durable)
sync.WaitGroup.Wait (durable)
cleanup wait`)
	reasons126 = lines(`

GC assist marking
IO wait
dumping heap
garbage collection
garbage collection scan
panicwait
GC assist wait
GC sweep wait
GC scavenge wait
finalizer wait
force gc (idle)
GOMAXPROCS updater (idle)
semacquire
sleep
chan receive (nil chan)
chan send (nil chan)
select (no cases)
select
chan receive
chan send
sync.Cond.Wait
sync.Mutex.Lock
sync.RWMutex.RLock
sync.RWMutex.Lock
sync.WaitGroup.Wait
trace reader (blocked)
wait for GC cycle
GC worker (idle)
GC worker (active)
preempted
debug call
GC mark termination
stopping the world
flushing proc caches
trace goroutine status
trace proc status
page trace flush
coroutine
GC weak to strong wait
synctest.Run
synctest.Wait
chan receive (durable)
chan send (durable)
select (durable)
sync.WaitGroup.Wait (durable)
cleanup wait`)
)

// lines cuts a text that begins with a newline: the first reason of all is the empty one.
func lines(s string) []string { return strings.Split(s[1:], "\n") }
