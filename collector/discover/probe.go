package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Bytes of an answer that are read: a command line as long as is compared, and the index page, which is some kilobytes.
const (
	maxProbeCmdline = maxCmdline
	maxProbeIndex   = 256 << 10
)

// Why a port that answers is no endpoint.
const (
	speaksTLS      = "speaks TLS, only plain HTTP is probed"
	answersAnother = "answers, but not with the command line of this process"
)

// UserAgent names Sonde to whoever reads the access log of a probed or scraped program.
func UserAgent(version string) string {
	if version == "" {
		version = "devel"
	}
	return "Sonde/" + version + " (+https://github.com/sonde-io/sonde)"
}

// prober asks loopback ports for pprof over plain HTTP.
type prober struct {
	client *http.Client
	paths  []string
	agent  string
}

func newProber(cfg Config) *prober {
	dialer := &net.Dialer{Timeout: cfg.ProbeTimeout}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dial, ok := ctx.Value(dialKey{}).(dialFunc); ok {
				return dial(ctx, network, addr)
			}
			return dialer.DialContext(ctx, network, addr) // no proxy: loopback only
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &prober{
		client: &http.Client{
			Transport:     t,
			Timeout:       cfg.ProbeTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		paths: cfg.Paths,
		agent: UserAgent(cfg.Version),
	}
}

type (
	dialKey  struct{}
	dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)
)

// withDial makes the prober connect by dial; nil leaves ctx as it is.
func withDial(ctx context.Context, dial dialFunc) context.Context {
	if dial == nil {
		return ctx
	}
	return context.WithValue(ctx, dialKey{}, dial)
}

// requests lists what probe would send to a listener at most.
func (pr *prober) requests(a netip.AddrPort) []string {
	var rs []string
	for _, p := range pr.paths {
		base := "http://" + loopback(a)[0] + p
		rs = append(rs, "GET "+base+"/cmdline", "GET "+base+"/")
	}
	return rs
}

// probe asks a listener for the command line under each of the paths, and the one that answers with the process's own for its index. It returns
// the endpoint, or why there is none and the error of the last request, if there was one.
func (pr *prober) probe(ctx context.Context, a netip.AddrPort, cmdline []byte) (ep *endpoint, why string, err error) {
	for _, host := range loopback(a) {
		for _, path := range pr.paths {
			base := "http://" + host + path
			var reason string
			if ep, reason, err = pr.ask(ctx, base, cmdline); ep != nil {
				return ep, "", nil
			}
			refused := errors.Is(err, syscall.ECONNREFUSED)
			if why == "" || !refused {
				why = reason
			}
			if refused {
				break // try the other family
			}
		}
	}
	return nil, why, err
}

// ask probes one base URL. err says that there was no answer.
func (pr *prober) ask(ctx context.Context, base string, cmdline []byte) (ep *endpoint, why string, err error) {
	body, status, err := pr.get(ctx, base+"/cmdline", maxProbeCmdline)
	switch {
	case err != nil:
		return nil, transportReason(err), err
	case status == http.StatusBadRequest && bytes.Contains(body, []byte("HTTPS server")):
		return nil, speaksTLS, nil
	case status != http.StatusOK:
		return nil, fmt.Sprintf("%d %s", status, http.StatusText(status)), nil
	case !sameCmdline(body, cmdline):
		return nil, answersAnother, nil
	}
	ep = &endpoint{url: base}
	// The index is optional: some programs register the profiles one by one.
	if body, status, err := pr.get(ctx, base+"/", maxProbeIndex); err == nil && status == http.StatusOK {
		ep.types = indexTypes(body)
	}
	return ep, "", nil
}

func (pr *prober) get(ctx context.Context, url string, limit int64) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("User-Agent", pr.agent)
	resp, err := pr.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return nil, 0, err
	}
	return body, resp.StatusCode, nil
}

// sameCmdline compares what /debug/pprof/cmdline answered, os.Args joined by NULs, with /proc/PID/cmdline, which ends with one. Both
// may have been cut at their limit.
func sameCmdline(answer, proc []byte) bool {
	answer, proc = bytes.TrimRight(answer, "\x00\n"), bytes.TrimRight(proc, "\x00\n")
	n := min(len(answer), len(proc))
	if len(answer) != len(proc) && n < maxCmdline-2 {
		return false
	}
	return n > 0 && bytes.Equal(answer[:n], proc[:n])
}

var indexLink = regexp.MustCompile(`href=['"]?([a-z]+)\?debug=`)

// indexTypes reads the types of profiles from the index page, in their order; nil where there are none.
func indexTypes(page []byte) []string {
	var types []string
	for _, m := range indexLink.FindAllSubmatch(page, 64) {
		if t := string(m[1]); !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types
}

// transportReason shortens an error of the HTTP client to what matters to who reads it in a list.
func transportReason(err error) string {
	var netErr net.Error
	switch {
	case errors.As(err, &netErr) && netErr.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed the connection"
	case strings.Contains(err.Error(), "malformed HTTP"):
		return "does not speak HTTP"
	}
	msg := err.Error()
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		msg = msg[i+2:]
	}
	return msg
}
