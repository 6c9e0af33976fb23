package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/internal/testcorpus"
	"github.com/sonde-io/sonde/profiles"
)

const (
	fleetInstances = 60
	fleetSlots     = 30     // one profile of each type per instance and slot
	fleetSlot      = 60_000 // ms
	fleetRange     = fleetSlots * fleetSlot
	fleetPushers   = 32
)

// TestFleetTotals pushes the corpus as a fleet of 60 instances over 30 simulated minutes, each file taken as one interval,
// through the HTTP API into a real collector, and compares the totals of every (service, type, sample type, function) with
// those that google/pprof reads from the same files: intervals to the unit; gauges, whose value is the time-weighted mean
// over the range, within the rounding of each distinct stack's mean to a whole number (0.5 each).
func TestFleetTotals(t *testing.T) {
	corpus := loadCorpus(t)
	srv := startServe(t, t.TempDir())
	from := time.Now().Add(-2 * time.Hour).Truncate(time.Minute).UnixMilli()
	pushFleet(t, srv, corpus, from)

	compare := func(t *testing.T) {
		for _, c := range corpus {
			for col := range c.columns {
				typ := profiles.Type{Profile: c.typ, Sample: c.columns[col].sample}
				t.Run(c.service+"/"+typ.String(), func(t *testing.T) { compareTop(t, srv, c, col, typ, from) })
			}
		}
	}
	t.Run("before restart", compare)
	srv = srv.restart(t)
	t.Run("after restart", compare)
	srv.stop(t)
	srv.check(t)
}

// corpusSeries is all files of one service and type, with their totals by google/pprof.
type corpusSeries struct {
	service, typ string
	files        [][]byte
	columns      []corpusColumn
}

type corpusColumn struct {
	sample string
	stacks int // distinct stacks over all files, at most
	// per file and function
	self, total []map[string]int64
}

func loadCorpus(t *testing.T) []*corpusSeries {
	t.Helper()
	by := map[string]*corpusSeries{}
	for _, f := range testcorpus.Files(t) {
		key := f.Service + "/" + f.Type
		c := by[key]
		if c == nil {
			c = &corpusSeries{service: f.Service, typ: f.Type}
			by[key] = c
		}
		data, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		c.add(t, data)
	}
	var all []*corpusSeries
	for _, c := range by {
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].service+all[i].typ < all[j].service+all[j].typ })
	return all
}

func (c *corpusSeries) add(t *testing.T, data []byte) {
	t.Helper()
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	c.files = append(c.files, data)
	if c.columns == nil {
		c.columns = make([]corpusColumn, len(p.SampleType))
		for i, st := range p.SampleType {
			c.columns[i].sample = st.Type
		}
	}
	for i := range c.columns {
		col := &c.columns[i]
		self, total := map[string]int64{}, map[string]int64{}
		for _, s := range p.Sample {
			v := s.Value[i]
			if v == 0 {
				continue
			}
			col.stacks++
			seen := map[string]bool{}
			for j, loc := range s.Location {
				for k, line := range loc.Line {
					if j == 0 && k == 0 {
						self[line.Function.Name] += v
					}
					if !seen[line.Function.Name] {
						seen[line.Function.Name] = true
						total[line.Function.Name] += v
					}
				}
			}
		}
		col.self, col.total = append(col.self, self), append(col.total, total)
	}
}

// file is the file that an instance sends in a slot.
func (c *corpusSeries) file(instance, slot int) int { return (slot + 7*instance) % len(c.files) }

func pushFleet(t *testing.T, srv *server, corpus []*corpusSeries, from int64) {
	t.Helper()
	type job struct {
		c              *corpusSeries
		instance, slot int
	}
	jobs := make(chan job)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var wg sync.WaitGroup
	for range fleetPushers {
		wg.Go(func() {
			for j := range jobs {
				start := from + int64(j.slot)*fleetSlot + int64(j.instance)*100
				q := url.Values{
					"service": {j.c.service}, "type": {j.c.typ},
					"instance": {fmt.Sprintf("%032x", j.instance+1)},
					"start":    {strconv.FormatInt(start, 10)}, "end": {strconv.FormatInt(start+fleetSlot, 10)},
				}
				if err := post(ctx, srv.url+"/api/v1/profiles?"+q.Encode(), j.c.files[j.c.file(j.instance, j.slot)]); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
send:
	for slot := range fleetSlots {
		for instance := range fleetInstances {
			for _, c := range corpus {
				select {
				case jobs <- job{c, instance, slot}:
				case <-ctx.Done():
					break send
				}
			}
		}
	}
	close(jobs)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		t.Fatal(err)
	}
}

func post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s: %s", url, resp.Status, answer)
	}
	return nil
}

func compareTop(t *testing.T, srv *server, c *corpusSeries, col int, typ profiles.Type, from int64) {
	q := url.Values{
		"query": {fmt.Sprintf("{service_name=%q}", c.service)}, "type": {typ.String()}, "limit": {"100000"},
		"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(from+fleetRange, 10)},
	}
	var got struct {
		Rows []struct {
			Function    string
			Self, Total int64
		}
		Stats struct{ Profiles int }
	}
	srv.get(t, "/api/v1/top?"+q.Encode(), &got)
	if want := fleetInstances * fleetSlots; got.Stats.Profiles != want {
		t.Errorf("merged %d profiles, want %d", got.Stats.Profiles, want)
	}
	self, total := map[string]int64{}, map[string]int64{}
	for _, r := range got.Rows {
		self[r.Function] += r.Self
		total[r.Function] += r.Total
	}
	wantSelf, wantTotal := c.want(col, typ.Kind())
	tolerance := 0.0
	if typ.Kind() == profiles.Gauge {
		tolerance = 0.5 * float64(c.columns[col].stacks)
	}
	compareSums(t, "self", self, wantSelf, tolerance)
	compareSums(t, "total", total, wantTotal, tolerance)
}

// want is what the reference makes of the files that the fleet sent.
func (c *corpusSeries) want(col int, kind profiles.Kind) (self, total map[string]float64) {
	uses := make([]float64, len(c.files))
	for slot := range fleetSlots {
		for instance := range fleetInstances {
			uses[c.file(instance, slot)]++
		}
	}
	self, total = map[string]float64{}, map[string]float64{}
	for i, n := range uses {
		if kind == profiles.Gauge {
			n = n * fleetSlot / fleetRange // value × time covered ÷ range
		}
		for f, v := range c.columns[col].self[i] {
			self[f] += n * float64(v)
		}
		for f, v := range c.columns[col].total[i] {
			total[f] += n * float64(v)
		}
	}
	return self, total
}

func compareSums(t *testing.T, what string, got map[string]int64, want map[string]float64, tolerance float64) {
	t.Helper()
	wrong := 0
	for f, w := range want {
		if math.Abs(float64(got[f])-w) > tolerance {
			if wrong++; wrong <= 5 {
				t.Errorf("%s of %s = %d, want %.1f ± %.1f", what, f, got[f], w, tolerance)
			}
		}
	}
	for f, g := range got {
		if _, ok := want[f]; !ok && g != 0 {
			if wrong++; wrong <= 5 {
				t.Errorf("%s of %s = %d, want none", what, f, g)
			}
		}
	}
	if wrong > 5 {
		t.Errorf("%s: %d functions of %d are wrong", what, wrong, len(want))
	}
}

func (s *server) get(t testing.TB, path string, into any) {
	t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %s", path, resp.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("GET %s: %v in %.200s", path, err, body)
	}
}
