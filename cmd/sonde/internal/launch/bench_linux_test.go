package launch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// noisy writes lines of a size to standard error at a rate for two seconds, and prints how many bytes it wrote, in how many seconds, with how many seconds of CPU.
const noisy = `package main

import ("bytes"; "fmt"; "os"; "strconv"; "syscall"; "time")

func main() {
	size, _ := strconv.Atoi(os.Args[1])
	rate, _ := strconv.Atoi(os.Args[2])
	line := append(bytes.Repeat([]byte("gc and more of it, "), size/19+1)[:size-1], '\n')
	begin, sent := time.Now(), 0
	for time.Since(begin) < 2*time.Second {
		if ahead := time.Duration(sent)*time.Second/time.Duration(rate) - time.Since(begin); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		n, err := os.Stderr.Write(line)
		if err != nil { os.Exit(1) }
		sent += n
	}
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	fmt.Println(sent, time.Since(begin).Seconds(), float64(u.Utime.Nano()+u.Stime.Nano())/1e9)
}
`

// BenchmarkStandardError passes 100 MB/s of standard error through the launcher, in writes of several sizes, and says how much gets through and what CPU the launcher takes for it.
func BenchmarkStandardError(b *testing.B) {
	dir := b.TempDir()
	source, exe := filepath.Join(dir, "main.go"), filepath.Join(dir, "noisy")
	if err := os.WriteFile(source, []byte(noisy), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", exe, source).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, size := range []int{100, 1000, 4000, 64 << 10} {
		b.Run(fmt.Sprintf("write=%d", size), func(b *testing.B) {
			var sent, seconds, cpu float64
			for b.Loop() {
				var said bytes.Buffer
				cmd := exec.Command(os.Args[0], exe, fmt.Sprint(size), "100000000")
				cmd.Env = append(os.Environ(), asLauncher+"="+filepath.Join(b.TempDir(), "lines"))
				cmd.Stdout, cmd.Stderr = &said, writer{io.Discard} // a pipe, as a container's runtime reads it
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				var n, took, own float64
				if _, err := fmt.Sscan(said.String(), &n, &took, &own); err != nil {
					b.Fatalf("%q: %v", said.String(), err)
				}
				// What is waited for counts for who waited.
				all := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				sent, seconds, cpu = sent+n, seconds+took, cpu+all.Seconds()-own
			}
			b.ReportMetric(sent/1e6/seconds, "MB/s")
			b.ReportMetric(100*cpu/seconds, "%-of-a-CPU")
			b.ReportMetric(float64(time.Duration(seconds*float64(time.Second)).Milliseconds()), "ms")
		})
	}
}

// writer hides what else a writer can do, so that exec makes a pipe.
type writer struct{ io.Writer }
