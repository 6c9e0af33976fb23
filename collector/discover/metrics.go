package discover

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The bounds of looking for metrics.
const (
	maxProbeMetrics = 8 << 20          // bytes of an answer: what is longer would not be read later either, by package exposed
	maxMetricsLine  = 64 << 10         // of which more is not looked at
	metricsWaits    = 3                // ProbeTimeouts that all ports of one process may take in one scan; the rest have their turn in the next
	startSlack      = 10 * time.Second // between what a program says of its start and what the kernel does
)

const metricsPath = "/metrics"

// acceptMetrics asks for text, the names of which are seen without a parser.
const acceptMetrics = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5"

// metricsPage is where a process answers with metrics of its runtime.
type metricsPage struct {
	listener
	url string
}

// asksMetrics reports whether ports of p may be asked for metrics at all. Of the scanner's own process they are known without.
func (s *Scanner) asksMetrics(p *proc) bool {
	return !s.cfg.Rules.NoProbes && !s.cfg.Rules.NoMetrics && p.entry == nil && p.base.PID != s.self
}

// metricsCandidates returns the listeners that should be asked for metrics, one per port, the one with the profiles first.
func (s *Scanner) metricsCandidates(p *proc) []listener {
	if p.metrics != nil || !s.asksMetrics(p) {
		return nil
	}
	ls := s.askable(p, p.noMetrics)
	if p.endpoint != nil {
		if i := slices.IndexFunc(ls, func(l listener) bool { return l.addr.Port() == p.endpoint.addr.Port() }); i > 0 {
			ls[0], ls[i] = ls[i], ls[0]
		}
	}
	return ls
}

// metricsPaths returns where the metrics of a port are: beside the profiles, if they are there.
func (p *proc) metricsPaths(l listener) []string {
	if p.endpoint != nil && p.endpoint.addr.Port() == l.addr.Port() {
		u, err := url.Parse(p.endpoint.url)
		if before, ok := strings.CutSuffix(u.EscapedPath(), "/debug/pprof"); err == nil && ok && before != "" {
			return []string{before + metricsPath, metricsPath}
		}
	}
	return []string{metricsPath}
}

// findMetrics asks the listeners in turn for metrics until one has those of a Go program.
func (s *Scanner) findMetrics(ctx context.Context, p *proc) {
	short, cancel := context.WithTimeout(withDial(ctx, s.Dial(&p.base)), metricsWaits*s.cfg.ProbeTimeout)
	defer cancel()
	for i, l := range s.metricsCandidates(p) {
		at, why, err := s.probe.metrics(short, l.addr, p.metricsPaths(l), p.base.Started)
		if ctx.Err() != nil || i > 0 && short.Err() != nil {
			return // it says nothing about the port
		}
		if entry, ok := errors.AsType[*entryError](err); ok {
			p.entry = entry
			return
		}
		s.log.Debug("asked for metrics", "pid", p.base.PID, "exe", p.base.Exe, "port", l.addr.Port(), "result", cmp.Or(why, "metrics"))
		if at != "" {
			p.metrics = &metricsPage{l, at}
			return
		}
		p.noMetrics[l.addr.Port()] = why
	}
}

// metrics asks a listener for metrics under each of the paths. It returns the URL of those of the program that began at started, or why there are none and the error of the last request.
func (pr *prober) metrics(ctx context.Context, a netip.AddrPort, paths []string, started time.Time) (at, why string, err error) {
	for _, host := range loopback(a) {
		for _, path := range paths {
			at = "http://" + host + path
			if why, err = pr.askMetrics(ctx, at, started); why == "" {
				return at, "", nil
			}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break // else try the other family
		}
	}
	return "", why, err
}

// askMetrics says why what a URL answers are not the metrics of a Go program that began at started; "" where they are.
func (pr *prober) askMetrics(ctx context.Context, at string, started time.Time) (why string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err.Error(), err
	}
	req.Header.Set("User-Agent", pr.agent)
	req.Header.Set("Accept", acceptMetrics)
	resp, err := pr.client.Do(req) // which follows no redirect
	if err != nil {
		return transportReason(err), err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), nil
	}
	if mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mt != "text/plain" && mt != "application/openmetrics-text" {
		return fmt.Sprintf("content type %.64q", resp.Header.Get("Content-Type")), nil
	}
	goes, start, err := readMetrics(resp.Body)
	switch {
	case errors.Is(err, errTooLarge):
		return err.Error(), nil
	case err != nil:
		return transportReason(err), err
	case !goes:
		return "no go_* or process_* in its answer", nil
	case start != 0 && math.Abs(start-float64(started.UnixMilli())/1000) > startSlack.Seconds():
		return "its process_start_time_seconds is that of another process", nil // which has the same socket
	}
	return "", nil
}

var errTooLarge = fmt.Errorf("answer is larger than %d bytes", maxProbeMetrics)

// readMetrics reports whether a text has a sample of go_* or process_*, and what it says of the start of its process; 0: nothing.
func readMetrics(r io.Reader) (goes bool, start float64, err error) {
	lr := &io.LimitedReader{R: r, N: maxProbeMetrics + 1}
	br := bufio.NewReaderSize(lr, maxMetricsLine)
	for whole := true; ; {
		line, err := br.ReadSlice('\n')
		if whole {
			name, v, ok := runtimeSample(line)
			goes = goes || ok
			if ok && name == "process_start_time_seconds" {
				start = v
			}
		}
		whole = !errors.Is(err, bufio.ErrBufferFull)
		switch {
		case lr.N <= 0:
			return false, 0, errTooLarge
		case errors.Is(err, io.EOF):
			return goes, start, nil
		case err != nil && whole:
			return false, 0, err
		}
	}
}

// runtimeSample reads a line of a sample of go_* or process_*: its name, with its labels if it has any, and its value.
func runtimeSample(line []byte) (name string, v float64, ok bool) {
	if !bytes.HasPrefix(line, []byte("go_")) && !bytes.HasPrefix(line, []byte("process_")) {
		return "", 0, false
	}
	end := bytes.IndexAny(line, "{ \t")
	if end < 0 || bytes.ContainsFunc(line[:end], func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != ':'
	}) {
		return "", 0, false
	}
	if line[end] == '{' {
		if end = bytes.LastIndexByte(line, '}') + 1; end == 0 {
			return "", 0, false
		}
	}
	f := bytes.Fields(line[end:])
	if len(f) == 0 {
		return "", 0, false
	}
	v, err := strconv.ParseFloat(string(f[0]), 64)
	return string(line[:end]), v, err == nil
}
