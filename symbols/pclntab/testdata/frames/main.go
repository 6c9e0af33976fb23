// Command frames writes what the runtime says of its own addresses: the innermost frame of addresses all over the text to the first file, and a heap profile, whose
// locations have their inlined frames, to the second.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/pprof"
	"sort"
	"strings"
)

type pair[K comparable, V any] struct {
	Key   K
	Value V
}

func collect[K comparable, V any](m map[K]V) []pair[K, V] {
	var out []pair[K, V]
	for k, v := range m {
		out = append(out, pair[K, V]{k, v})
	}
	return out
}

type shape interface{ Area() float64 }

type square struct{ side float64 }

func (s square) Area() float64 { return s.side * s.side }

var kept []interface{}

func keep(v interface{}) { kept = append(kept, v) }

func outer(n int) { middle(n) }

func middle(n int) { inner(n) }

func inner(n int) { keep(make([]byte, n)) }

func work() {
	for i := 0; i < 50; i++ {
		outer(i)
		b, err := json.Marshal(map[string]interface{}{"a": i, "b": []int{i}, "c": map[string]string{"x": fmt.Sprint(i)}})
		if err != nil {
			panic(err)
		}
		var v interface{}
		if err := json.Unmarshal(b, &v); err != nil {
			panic(err)
		}
		keep(v)
		keep(collect(map[string]int{"a": i}))
		keep(strings.Repeat("x", i) + fmt.Sprintf("%v", shape(&square{2}).Area()))
		s := []string{"b", "a", fmt.Sprint(i)}
		sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	}
}

func text() (lo, hi uintptr) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	pc := reflect.ValueOf(main).Pointer()
	for _, line := range strings.Split(string(b), "\n") {
		if _, err := fmt.Sscanf(line, "%x-%x", &lo, &hi); err == nil && pc >= lo && pc < hi {
			return lo, hi
		}
	}
	panic("no text")
}

func main() {
	runtime.MemProfileRate = 1
	work()
	f, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "%x\n", reflect.ValueOf(main).Pointer())
	lo, hi := text()
	for pc := lo; pc < hi; pc += 199 {
		fn := runtime.FuncForPC(pc)
		frame, _ := runtime.CallersFrames([]uintptr{pc + 1}).Next()
		if fn == nil || frame.Function == "" {
			continue
		}
		fmt.Fprintf(w, "%x %x %d %s|%s\n", pc, frame.Entry, frame.Line, frame.Function, frame.File)
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	p, err := os.Create(os.Args[2])
	if err != nil {
		panic(err)
	}
	runtime.GC()
	if err := pprof.Lookup("allocs").WriteTo(p, 0); err != nil {
		panic(err)
	}
}
