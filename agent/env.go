package agent

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolve fills in c from the environment and the defaults, and returns what was wrong.
func (c *Config) resolve(getenv func(string) string) (problems []string) {
	r := &resolver{getenv: getenv}
	c.Disabled = c.Disabled || r.bool("SONDE_DISABLED")
	r.str(&c.Service, "SONDE_SERVICE", "OTEL_SERVICE_NAME")
	r.str(&c.ServiceVersion, "SONDE_SERVICE_VERSION")
	r.str(&c.Environment, "SONDE_ENVIRONMENT")
	r.str(&c.Namespace, "SONDE_NAMESPACE")
	r.str(&c.URL, "SONDE_URL")
	r.str(&c.Token, "SONDE_TOKEN")
	r.types(&c.Types)
	r.duration(&c.Period, "Period", "SONDE_PERIOD", defaultPeriod, minPeriod, maxPeriod)
	r.duration(&c.Timeout, "Timeout", "SONDE_TIMEOUT", defaultTimeout, time.Millisecond, 10*time.Minute)
	r.duration(&c.CloseTimeout, "CloseTimeout", "SONDE_CLOSE_TIMEOUT", defaultClose, time.Millisecond, 10*time.Minute)
	r.toggle(&c.Captures, "SONDE_CAPTURES")
	r.toggle(&c.Metrics, "SONDE_METRICS")
	c.FlightRecorder = c.FlightRecorder || r.yes("SONDE_FLIGHT_RECORDER")
	r.list(&c.KeepLabels, "SONDE_KEEP_LABELS", ",")
	r.list(&c.DropLabels, "SONDE_DROP_LABELS", ",")
	r.list(&c.Redact, "SONDE_REDACT", "\n")
	r.list(&c.SendArgs, "SONDE_SEND_ARGS", ",")
	r.list(&c.SendEnv, "SONDE_SEND_ENV", ",")
	r.int(&c.CPURate, "CPURate", "SONDE_CPU_RATE", runtimeCPURate, 1, runtimeCPURate)
	r.int(&c.MutexFraction, "MutexFraction", "SONDE_MUTEX_FRACTION", 0, 0, 1<<30)
	r.int(&c.BlockRate, "BlockRate", "SONDE_BLOCK_RATE", 0, 0, 1<<31-1)
	r.int(&c.MaxGoroutines, "MaxGoroutines", "SONDE_MAX_GOROUTINES", defaultGoroutines, 1, 1<<30)
	r.int(&c.QueueBytes, "QueueBytes", "SONDE_QUEUE_BYTES", defaultQueueBytes, 64<<10, 1<<30)
	c.URL = r.url(c.URL, c.Token != "" || getenv("SONDE_TOKEN_FILE") != "")
	if c.TLS == nil {
		c.TLS = r.roots(getenv("SONDE_CA_FILE"))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return r.problems
}

// resolver reads settings and gathers what is wrong with them.
type resolver struct {
	getenv   func(string) string
	problems []string
}

func (r *resolver) wrong(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func (r *resolver) str(to *string, names ...string) {
	for _, name := range names {
		if *to == "" {
			*to = r.getenv(name)
		}
	}
}

func (r *resolver) bool(name string) bool {
	s := r.getenv(name)
	if s == "" {
		return false
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		r.wrong("%s=%q: want 1 or 0; taken as 1", name, s)
		return true // who sets it at all wants the agent off
	}
	return v
}

// yes is bool for what is off unless it is asked for.
func (r *resolver) yes(name string) bool {
	s := r.getenv(name)
	if s == "" {
		return false
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		r.wrong("%s=%q: want 1 or 0; taken as 0", name, s)
	}
	return v
}

// toggle leaves *to On or Off.
func (r *resolver) toggle(to *Switch, name string) {
	if s := r.getenv(name); *to == Default && s != "" {
		v, err := strconv.ParseBool(s)
		*to = On
		if err != nil {
			r.wrong("%s=%q: want 1 or 0; taken as 0", name, s) // who sets it at all has a reason to
		}
		if !v {
			*to = Off
		}
	}
	switch {
	case *to == Default, *to > 0:
		*to = On
	default:
		*to = Off
	}
}

// list splits a variable at sep.
func (r *resolver) list(to *[]string, name, sep string) {
	if len(*to) > 0 {
		return
	}
	for _, s := range strings.Split(r.getenv(name), sep) {
		if s = strings.TrimSpace(s); s != "" {
			*to = append(*to, s)
		}
	}
}

func (r *resolver) int(to *int, field, name string, def, lo, hi int) {
	where := field
	if s := r.getenv(name); *to == 0 && s != "" {
		v, err := strconv.Atoi(s)
		if err != nil {
			r.wrong("%s=%q: want a number; using %d", name, s, def)
		}
		*to, where = v, name
	}
	switch {
	case *to == 0:
		*to = def
	case *to < lo:
		r.wrong("%s=%d: below %d; using %d", where, *to, lo, lo)
		*to = lo
	case *to > hi:
		r.wrong("%s=%d: above %d; using %d", where, *to, hi, hi)
		*to = hi
	}
}

func (r *resolver) duration(to *time.Duration, field, name string, def, lo, hi time.Duration) {
	where := field
	if s := r.getenv(name); *to == 0 && s != "" {
		v, err := time.ParseDuration(s)
		if err != nil {
			r.wrong("%s=%q: want a duration such as 15s; using %v", name, s, def)
		}
		*to, where = v, name
	}
	switch {
	case *to == 0:
		*to = def
	case *to < lo:
		r.wrong("%s=%v: below %v; using %v", where, *to, lo, lo)
		*to = lo
	case *to > hi:
		r.wrong("%s=%v: above %v; using %v", where, *to, hi, hi)
		*to = hi
	}
}

// types leaves the known types of the setting, in the order of capture; the default ones where none is named.
func (r *resolver) types(to *[]Type) {
	asked := *to
	if len(asked) == 0 {
		for _, s := range strings.Split(r.getenv("SONDE_TYPES"), ",") {
			if s = strings.TrimSpace(s); s != "" {
				asked = append(asked, Type(s))
			}
		}
	}
	for _, t := range asked {
		if !slices.Contains(allTypes, t) {
			r.wrong("type %q: want %v; left out", t, allTypes)
		}
	}
	*to = intersect(allTypes, asked)
	if len(*to) == 0 {
		*to = defaultTypes
	}
}

// intersect returns the types of order that are in set.
func intersect(order, set []Type) []Type {
	var out []Type
	for _, t := range order {
		if slices.Contains(set, t) {
			out = append(out, t)
		}
	}
	return out
}

// url returns the collector's base URL without a slash at the end, or unix: and a path.
func (r *resolver) url(s string, token bool) string {
	if s == "" {
		return defaultURL
	}
	if path, ok := socketPath(s); ok {
		if path == "" || path == "@" || len(path) > maxSocketPath {
			r.wrong("URL %q: want unix:PATH with a path of at most %d bytes; using %s", s, maxSocketPath, defaultURL)
			return defaultURL
		}
		return "unix:" + path
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		r.wrong("URL %q: want http://HOST:PORT, https://HOST:PORT or unix:PATH; using %s", s, defaultURL)
		return defaultURL
	}
	if ip := net.ParseIP(u.Hostname()); token && u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		r.wrong("URL %q: the token crosses the network in the clear; use https", u.Redacted())
	}
	u.RawQuery, u.Fragment = "", ""
	return strings.TrimRight(u.String(), "/")
}

// roots returns the system's roots with those of file added; nil where file is empty or wrong.
func (r *resolver) roots(file string) *tls.Config {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		r.wrong("SONDE_CA_FILE: %v", err)
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		r.wrong("SONDE_CA_FILE=%s: no certificate in it", file)
		return nil
	}
	return &tls.Config{RootCAs: pool}
}

// parsePairs reads a=b,c=d with percent-encoded values, as OTEL_RESOURCE_ATTRIBUTES has them. Dots in names become underscores.
func parsePairs(s string) (pairs map[string]string, wrong []string) {
	pairs = map[string]string{}
	for _, kv := range strings.Split(s, ",") {
		if strings.TrimSpace(kv) == "" {
			continue
		}
		k, v, ok := strings.Cut(kv, "=")
		k = strings.TrimSpace(k)
		if !ok || k == "" {
			wrong = append(wrong, kv)
			continue
		}
		v = strings.TrimSpace(v)
		if decoded, err := url.PathUnescape(v); err == nil {
			v = decoded
		}
		pairs[labelName(k)] = v
	}
	return pairs, wrong
}
