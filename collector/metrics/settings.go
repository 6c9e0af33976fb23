package metrics

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Settings are what the config file has under metrics. A zero field means its default.
type Settings struct {
	RetentionAge  model.Duration `yaml:"retention_age" json:"retention_age,omitempty"`   // samples are kept for this long; default 30d
	RetentionSize Size           `yaml:"retention_size" json:"retention_size,omitempty"` // of blocks and write-ahead log together, the oldest blocks go first; default 10GB
	OutOfOrder    model.Duration `yaml:"out_of_order" json:"out_of_order,omitempty"`     // samples up to this much older than the newest are taken in any order; default 1d
	MaxSeries     int            `yaml:"max_series" json:"max_series,omitempty"`         // series that are alive at once, of some hours; new ones over it are left out; default 500000

	MaxConcurrentQueries int            `yaml:"max_concurrent_queries" json:"max_concurrent_queries,omitempty"` // queries that run or whose answer is being sent, the next wait; default 8
	MaxQuerySamples      int            `yaml:"max_query_samples" json:"max_query_samples,omitempty"`           // samples that one query holds in memory; over it 422; default 10000000
	QueryTimeout         model.Duration `yaml:"query_timeout" json:"query_timeout,omitempty"`                   // of one query, waiting included; over it 503; default 30s

	// QueryURL is a server that answers Prometheus' API, such as http://mimir:8080/prometheus: what asks for series under /prometheus is passed on to it, for who keeps them there by
	// remote-write. Rules read there too; their state, alerts and writes are here.
	QueryURL       string            `yaml:"query_url" json:"query_url,omitempty"`
	QueryTokenFile string            `yaml:"query_token_file" json:"query_token_file,omitempty"` // file with the bearer token for it, read for each query
	QueryHeaders   map[string]string `yaml:"query_headers" json:"-"`                             // sent to it, such as X-Scope-OrgID

	// RemoteWrite are servers to which all that is stored is sent on, as Prometheus' remote_write.
	RemoteWrite RemoteWrites `yaml:"remote_write" json:"-"`

	// Keep are regular expressions of whole names: what is kept of a scraped /metrics. Default: go_.*, process_.*, promhttp_.*
	Keep []string `yaml:"keep" json:"keep,omitempty"`
}

var defaults = Settings{
	RetentionAge: model.Duration(30 * 24 * time.Hour), RetentionSize: 10_000_000_000, OutOfOrder: model.Duration(24 * time.Hour), MaxSeries: 500_000,
	MaxConcurrentQueries: 8, MaxQuerySamples: 10_000_000, QueryTimeout: model.Duration(30 * time.Second), Keep: []string{"go_.*", "process_.*", "promhttp_.*"},
}

// WithDefaults returns s with the default where a field is zero.
func (s Settings) WithDefaults() Settings {
	s.RetentionAge = cmp.Or(s.RetentionAge, defaults.RetentionAge)
	s.RetentionSize = cmp.Or(s.RetentionSize, defaults.RetentionSize)
	s.OutOfOrder = cmp.Or(s.OutOfOrder, defaults.OutOfOrder)
	s.MaxSeries = cmp.Or(s.MaxSeries, defaults.MaxSeries)
	s.MaxConcurrentQueries = cmp.Or(s.MaxConcurrentQueries, defaults.MaxConcurrentQueries)
	s.MaxQuerySamples = cmp.Or(s.MaxQuerySamples, defaults.MaxQuerySamples)
	s.QueryTimeout = cmp.Or(s.QueryTimeout, defaults.QueryTimeout)
	if len(s.Keep) == 0 {
		s.Keep = defaults.Keep
	}
	return s
}

// Validate returns an error that names the setting that is wrong.
func (s Settings) Validate() error {
	for name, n := range map[string]int64{"retention_age": int64(s.RetentionAge), "retention_size": int64(s.RetentionSize), "out_of_order": int64(s.OutOfOrder), "max_series": int64(s.MaxSeries),
		"max_concurrent_queries": int64(s.MaxConcurrentQueries), "max_query_samples": int64(s.MaxQuerySamples), "query_timeout": int64(s.QueryTimeout)} {
		if n < 0 {
			return fmt.Errorf("setting metrics.%s is negative", name)
		}
	}
	if d := time.Duration(s.RetentionAge); d != 0 && d < 2*time.Hour {
		return fmt.Errorf("setting metrics.retention_age is %s: a block of series is two hours, keep at least that", s.RetentionAge)
	}
	if s.QueryURL != "" {
		u, err := url.Parse(s.QueryURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			return errors.New("setting metrics.query_url: want http(s)://HOST[:PORT][/PATH] under which /api/v1/query is; a token goes to query_token_file")
		}
	} else if s.QueryTokenFile != "" || len(s.QueryHeaders) > 0 {
		return errors.New("settings metrics.query_token_file and query_headers are for metrics.query_url, which is not set")
	}
	if err := s.RemoteWrite.Validate(); err != nil {
		return err
	}
	for _, k := range s.Keep {
		if _, err := regexp.Compile("^(?:" + k + ")$"); err != nil {
			return fmt.Errorf("setting metrics.keep: %w", err)
		}
	}
	return nil
}

// Size is a number of bytes, written 16MiB, 10GB or as bare bytes.
type Size int64

var (
	_ encoding.TextMarshaler   = Size(0)
	_ encoding.TextUnmarshaler = (*Size)(nil)
)

var sizeUnits = []struct {
	name  string
	bytes float64
}{{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1}}

// MarshalText writes s in the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range sizeUnits {
		if n := int64(u.bytes); s != 0 && n > 1 && int64(s)%n == 0 {
			return []byte(strconv.FormatInt(int64(s)/n, 10) + u.name), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// UnmarshalText reads a number of bytes with or without a unit, whose case does not matter.
func (s *Size) UnmarshalText(b []byte) error {
	num, mult := strings.TrimSpace(string(b)), 1.0
	for _, u := range sizeUnits {
		if len(num) > len(u.name) && strings.EqualFold(num[len(num)-len(u.name):], u.name) {
			num, mult = strings.TrimSpace(num[:len(num)-len(u.name)]), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(num, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n*mult >= math.MaxInt64 {
		return fmt.Errorf("parse size %.50q: want bytes or a number with a unit, such as 500MB or 16MiB", b)
	}
	*s = Size(n * mult)
	return nil
}
