package agreement

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/perf"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Report compares the two profiles of one interval of one program.
type Report struct {
	Shape    string        `json:"shape"`
	Duration time.Duration `json:"duration"`
	Mode     perf.Mode     `json:"mode"`

	Inside  int64 `json:"inside_samples"`
	Outside int64 `json:"outside_samples"`

	Overlap   float64 `json:"overlap"`     // Σ of the smaller of each function's two shares, of the innermost frames: 1 is the same
	Chance    float64 `json:"chance"`      // what it would be on average if only chance told the two apart
	ChanceLow float64 `json:"chance_low"`  // and what it would fall below one time in twenty
	Moved     int64   `json:"moved"`       // samples that count for the caller of their innermost function, see artefacts
	Largest   []Gap   `json:"differences"` // the largest differences of shares

	InsideCPU  time.Duration `json:"inside_cpu"`
	OutsideCPU time.Duration `json:"outside_cpu"`
	StatCPU    time.Duration `json:"stat_cpu"` // what /proc/PID/stat says

	SamplerCPU float64 `json:"sampler_cpu"` // of one CPU: this whole process meanwhile
	RSS        int64   `json:"rss"`         // bytes of this whole process
	Lost       uint64  `json:"lost"`
}

// Gap is a function whose shares differ.
type Gap struct {
	Function        string
	Inside, Outside float64
}

// discard is a sink that takes everything: what is compared is a capture.
type discard struct{}

func (discard) Append(context.Context, store.Push) error { return nil }

// Compare profiles a workload from inside and outside for d. command is how it is run: it calls Workload.
func Compare(ctx context.Context, shape string, d time.Duration, command func(ctx context.Context, shape string) *exec.Cmd) (r *Report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sampler, err := perf.New(perf.Config{Sink: discard{}, Logger: slog.New(slog.DiscardHandler), CPULimit: -1})
	if err != nil {
		return nil, err
	}
	w, err := startWorkload(ctx, shape, command)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ran := make(chan error, 1)
	sampling, stop := context.WithCancel(ctx)
	go func() { ran <- sampler.Run(sampling) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ran)
	}()
	pid := w.cmd.Process.Pid
	const instance = "workload"
	sampler.SetTargets([]perf.Target{{PID: pid, Process: catalog.Process{Instance: instance, Service: shape, PID: pid, Labels: labels.FromStrings("service_name", shape)}}})
	if err := watching(ctx, sampler); err != nil {
		return nil, err
	}
	r = &Report{Shape: shape, Duration: d, Mode: sampler.Stats().Mode}
	own, statBefore := ownCPU(), statCPU(pid)
	began := time.Now()
	stat := make(chan time.Duration, 1)
	time.AfterFunc(d, func() {
		// A timer that fires late reads too much.
		used := statCPU(pid) - statBefore
		stat <- time.Duration(float64(used) * d.Seconds() / time.Since(began).Seconds())
	})
	if err := w.ask(d); err != nil {
		return nil, err
	}
	outside, err := sampler.Capture(ctx, instance, "cpu", d)
	if err != nil {
		return nil, err
	}
	r.StatCPU, r.SamplerCPU = <-stat, (ownCPU()-own).Seconds()/time.Since(began).Seconds()
	r.RSS, r.Lost = rss(), sampler.Stats().Lost
	inside, err := w.answer()
	if err != nil {
		return nil, err
	}
	r.compare(inside, outside)
	return r, nil
}

// watching waits until the sampler watches the workload.
func watching(ctx context.Context, s *perf.Sampler) error {
	for range 100 {
		for _, st := range s.Status() {
			switch st.State {
			case "watching":
				return nil
			case "refused":
				return errors.New(st.Reason)
			}
		}
		if text := s.Stats().Refused; text != "" && s.Stats().Mode == "" {
			return errors.New(text)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("the sampler did not begin to watch within 10 s")
}

// workload is the other process.
type workload struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func startWorkload(ctx context.Context, shape string, command func(ctx context.Context, shape string) *exec.Cmd) (*workload, error) {
	w := &workload{cmd: command(ctx, shape)}
	w.cmd.Stderr = os.Stderr
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if w.out, err = w.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start workload: %w", err)
	}
	return w, nil
}

func (w *workload) ask(d time.Duration) error {
	_, err := fmt.Fprintln(w.in, d)
	return err
}

// maxAnswer bounds the profile that the workload sends, in bytes.
const maxAnswer = 64 << 20

func (w *workload) answer() (*profiles.Profile, error) {
	var size [8]byte
	if _, err := io.ReadFull(w.out, size[:]); err != nil {
		return nil, fmt.Errorf("read the workload's profile: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(w.out, int64(min(binary.BigEndian.Uint64(size[:]), maxAnswer))))
	if err != nil {
		return nil, fmt.Errorf("read the workload's profile: %w", err)
	}
	if b, err = profiles.Gunzip(nil, b, maxAnswer); err != nil {
		return nil, fmt.Errorf("read the workload's profile: %w", err)
	}
	return new(profiles.Decoder).Decode(b, profiles.Limits{MaxBytes: maxAnswer, MaxSamples: 1 << 20, MaxFrames: 1 << 24})
}

func (w *workload) close() error {
	w.in.Close()
	return w.cmd.Wait()
}

// compare fills in what the two profiles say.
func (r *Report) compare(inside, outside *profiles.Profile) {
	a, movedA := flat(inside)
	b, movedB := flat(outside)
	r.Inside, r.InsideCPU = total(inside)
	r.Outside, r.OutsideCPU = total(outside)
	r.Moved = movedA + movedB
	r.Overlap = overlap(a, b)
	r.Chance, r.ChanceLow = chance(a, b)
	na, nb := count(a), count(b)
	seen := map[string]bool{}
	for _, m := range []map[string]int64{a, b} {
		for name := range m {
			if !seen[name] {
				seen[name] = true
				r.Largest = append(r.Largest, Gap{name, float64(a[name]) / na, float64(b[name]) / nb})
			}
		}
	}
	size := func(g Gap) float64 { return max(g.Inside-g.Outside, g.Outside-g.Inside) }
	slices.SortFunc(r.Largest, func(x, y Gap) int {
		switch dx, dy := size(x), size(y); {
		case dx > dy:
			return -1
		case dx < dy:
			return 1
		}
		return strings.Compare(x.Function, y.Function)
	})
	r.Largest = r.Largest[:min(len(r.Largest), 5)]
}

// artefacts are innermost functions that one side names and the other does not: the runtime's profile finds a function that is being preempted in runtime.asyncPreempt, and of a
// thread in the kernel's page of fast system calls it tells neither that nor the function that called it.
var artefacts = map[string]bool{"runtime.asyncPreempt": true, "runtime.asyncPreempt2": true, "[vdso]": true, "runtime.nanotime1": true, "runtime.walltime": true}

// flat counts the samples by innermost function, inlined ones included, artefacts left out; moved is how many had one.
func flat(p *profiles.Profile) (counts map[string]int64, moved int64) {
	counts = map[string]int64{}
	for i, s := range p.Samples {
		name, skipped := "?", false
		for _, id := range p.LocationIDs[s.Locations.Lo:s.Locations.Hi] {
			l := p.Locations[id]
			if l.Lines.Len() == 0 {
				break
			}
			if name = p.Functions[p.Lines[l.Lines.Lo].Function].Name; !artefacts[name] {
				break
			}
			skipped = true
		}
		n := p.Row(i)[0]
		counts[name] += n
		if skipped {
			moved += n
		}
	}
	return counts, moved
}

func total(p *profiles.Profile) (samples int64, cpu time.Duration) {
	for i := range p.Samples {
		samples += p.Row(i)[0]
		cpu += time.Duration(p.Row(i)[1])
	}
	return samples, cpu
}

func count(m map[string]int64) float64 {
	n := int64(0)
	for _, v := range m {
		n += v
	}
	return float64(max(n, 1))
}

func overlap(a, b map[string]int64) (sum float64) {
	na, nb := count(a), count(b)
	for name, v := range a {
		sum += min(float64(v)/na, float64(b[name])/nb)
	}
	return sum
}

// chance draws two samples as large as a and b from both put together, 200 times.
func chance(a, b map[string]int64) (mean, low float64) {
	var names []string
	var upTo []int64 // cumulated counts
	n := int64(0)
	all := map[string]int64{}
	for _, m := range []map[string]int64{a, b} {
		for name, v := range m {
			all[name] += v
		}
	}
	for name, v := range all {
		n += v
		names, upTo = append(names, name), append(upTo, n)
	}
	if n == 0 {
		return 0, 0
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	draw := func(size int) map[string]int64 {
		out := map[string]int64{}
		for range size {
			i, _ := slices.BinarySearch(upTo, rnd.Int64N(n)+1)
			out[names[i]]++
		}
		return out
	}
	var got []float64
	for range 200 {
		got = append(got, overlap(draw(int(count(a))), draw(int(count(b)))))
	}
	slices.Sort(got)
	for _, v := range got {
		mean += v / float64(len(got))
	}
	return mean, got[len(got)/20]
}

// statCPU reads the CPU time of a process from /proc/PID/stat.
func statCPU(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 10 ms on every architecture that Go has
}

// rss reads how much memory this process holds, in bytes.
func rss() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[1], 10, 64)
	return n * int64(os.Getpagesize())
}
