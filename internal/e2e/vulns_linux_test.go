package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/audit"
	"github.com/sonde-io/sonde/internal/testgo"
	"github.com/sonde-io/sonde/symbols/build"
)

// The program has an old golang.org/x/text, and parses language tags with it if it is told to.
const oldText = `package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"time"

	"golang.org/x/text/language"
)

var n int

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(ln, nil)
	fmt.Println("ready")
	for {
		for end := time.Now().Add(40 * time.Millisecond); time.Now().Before(end); {
			if os.Getenv("PARSE") != "" {
				t, _ := language.Parse("en-US-u-co-phonebk")
				n += len(t.String())
			} else {
				n += len(strings.Fields("not that function"))
			}
		}
		time.Sleep(60 * time.Millisecond)
	}
}
`

// TestVulnerableFunctionSeen runs two services of one build with an old golang.org/x/text, of which one calls the vulnerable function: that it was seen there, and only there, is what
// `sonde vulns` says, by the collector's own database and by one that is sent along.
func TestVulnerableFunctionSeen(t *testing.T) {
	bins := t.TempDir()
	exe := filepath.Join(bins, "oldtext")
	testgo.BuildOldText(t, exe, oldText)
	info, err := build.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	db, err := filepath.Abs("../../symbols/vulns/testdata/vulndb")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "sonde.yaml")
	if err := os.WriteFile(config, []byte("builds:\n  vulndb: "+db+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	srv := startServe(t, t.TempDir(), "--config", config, "--allow", "path:"+bins+"/*", "--scrape-period", "2s", "--cpu-period", "5s", "--cpu-duration", "2s")
	startFixture(t, exe, "OTEL_SERVICE_NAME=parses", "PARSE=1")
	startFixture(t, exe, "OTEL_SERVICE_NAME=idles")

	const function = "golang.org/x/text/language.Parse"
	ask := func(args ...string) (audit.Vuln, error) {
		var r audit.Report
		out, err := tryCLI(srv, append([]string{"vulns", "-o", "json"}, args...)...)
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil {
			return audit.Vuln{}, err
		}
		for _, v := range r.Vulns {
			if v.ID == "GO-2021-0113" && v.Build == info.Key() {
				if !slices.Equal(v.Services, []string{"idles", "parses"}) || len(v.Seen) == 0 || !slices.Contains(r.Types, "cpu") {
					return v, fmt.Errorf("it is in %v, seen %v, by %v", v.Services, v.Seen, r.Types)
				}
				return v, nil
			}
		}
		return audit.Vuln{}, fmt.Errorf("GO-2021-0113 is not among %d vulnerabilities: %s", len(r.Vulns), out)
	}
	for _, args := range [][]string{nil, {"--db", db}} {
		var v audit.Vuln
		hours := 0
		eventually(t, 2*time.Minute, "the vulnerable function", func() (err error) {
			hours++ // a report is kept for half a minute: each is about another time
			v, err = ask(append(args, "--since", fmt.Sprintf("%dh", hours))...)
			return err
		})
		if v.Module != "golang.org/x/text" || v.Found != "v0.3.5" || v.Fixed != "v0.3.7" || v.InBinary != "yes" {
			t.Errorf("%v: %+v", args, v)
		}
		for _, s := range v.Seen {
			if s.Service != "parses" || s.Instances != 1 {
				t.Errorf("%v: seen %+v, want it in parses only", args, s)
			}
		}
		if !slices.ContainsFunc(v.Seen, func(s audit.Seen) bool { return s.Function == function }) {
			t.Errorf("%v: seen %+v, want %s", args, v.Seen, function)
		}
	}
	if out := cli(t, srv, "vulns", "--service", "idles"); !strings.Contains(out, "GO-2021-0113") || strings.Contains(out, "ran in") {
		t.Errorf("of the service that does not call it:\n%s", out)
	}
	out := cli(t, srv, "vulns", "-o", "sarif")
	if !strings.Contains(out, `"level": "error"`) || !strings.Contains(out, function+" was seen running in parses") {
		t.Errorf("SARIF does not say that it was seen:\n%s", out)
	}
}
