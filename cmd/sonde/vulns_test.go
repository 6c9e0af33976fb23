package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/symbols/vulns"
)

const vulnDB = "../../symbols/vulns/testdata/vulndb"

const vulnsJSON = `{"from":1794657600000,"to":1795262400000,"vulns":[
{"id":"GO-2021-0113","aliases":["CVE-2021-38561"],"summary":"A tag can cause Parse to panic.","url":"https://pkg.go.dev/vuln/GO-2021-0113","module":"golang.org/x/text","found":"v0.3.5","fixed":"v0.3.7",
 "build":"649f9370daeb7bfea356dc25fd75088c3466ad4b","version":"v1","go_version":"go1.26.8","services":["cart","shop"],"symbols":["golang.org/x/text/language.Parse"],"in_binary":"yes","present":["golang.org/x/text/language.Parse"],
 "seen":[{"function":"golang.org/x/text/language.Parse","service":"cart","instances":2,"first":1795251600000,"last":1795258860000,"types":["cpu","heap"]}]},
{"id":"GO-2022-0969","aliases":[],"summary":"Connections can hang.","url":"https://pkg.go.dev/vuln/GO-2022-0969","module":"golang.org/x/net","found":"v0.1.0","fixed":"",
 "build":"aa","version":"","go_version":"go1.26.8","services":["billing"],"symbols":["golang.org/x/net/http2.Server.ServeConn"],"in_binary":"no","present":[],"seen":[]}],
"unsupported":[{"build":"bb","version":"v3","go_version":"go1.21.13","since":"2024-08-13","services":["old"]}],
"unknown":[{"build":"cc","services":["odd"],"why":"whoever reported it did not say what is in it"}],
"types":["cpu"],"database":{"modified":"2023-04-03T15:57:51Z","entries":18},"releases":"2026-11-21"}`

func TestVulns(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	r := sonde(t, answers("/api/v1/vulns", vulnsJSON, &q), "", "vulns", "--service", "cart", "--since", "2d")
	want := `vulnerabilities of builds by the database of 2023-04-03 (entries: 18): 2, of which 1 were seen running
SEEN                 BINARY  ID            MODULE             FOUND   FIXED   BUILD         SERVICES
2026-11-21 11:01:00  yes     GO-2021-0113  golang.org/x/text  v0.3.5  v0.3.7  649f9370daeb  cart, shop
-                    no      GO-2022-0969  golang.org/x/net   v0.1.0  -       aa            billing

GO-2021-0113: A tag can cause Parse to panic.
  https://pkg.go.dev/vuln/GO-2021-0113
  golang.org/x/text/language.Parse ran in 2 processes of cart, from 2026-11-21 09:00:00 to 2026-11-21 11:01:00 (cpu, heap)

Go out of support (by the releases until 2026-11-21):
GO         SINCE       BUILD  VERSION  SERVICES
go1.21.13  2024-08-13  bb     v3       old
`
	if r.code != 0 || r.stdout != want || r.stderr != "build cc of odd cannot be judged fully: whoever reported it did not say what is in it\n" {
		t.Errorf("exit %d, stderr %q, stdout:\n%s\nwant:\n%s", r.code, r.stderr, r.stdout, want)
	}
	if q.Get("service") != "cart" || q.Get("since") != unixMs(now.Add(-48*time.Hour).UnixMilli()) {
		t.Errorf("asked for %v", q)
	}
	if r := sonde(t, answers("/api/v1/vulns", `{"vulns":[],"note":"no vulnerability database is configured"}`, nil), "", "vulns"); r.code != 0 || !strings.Contains(r.stderr, "were not looked for: no vuln") {
		t.Errorf("without a database: %+v", r)
	}
}

// TestVulnsByOwnDatabase sends the database along.
func TestVulnsByOwnDatabase(t *testing.T) {
	entries := 0
	h := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			var d *vulns.Database
			if d, err = vulns.OpenZip(bytes.NewReader(body), int64(len(body))); err == nil {
				entries = d.Entries()
			}
		}
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v1/vulns" || r.URL.Query().Get("service") != "cart" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		io.WriteString(w, vulnsJSON)
	}
	if r := sonde(t, h, "", "vulns", "--db", vulnDB, "--service", "cart"); r.code != 0 || !strings.Contains(r.stdout, "GO-2021-0113") || entries != 18 {
		t.Errorf("%d entries came: %+v", entries, r)
	}
}

func TestVulnsSARIF(t *testing.T) {
	r := sonde(t, answers("/api/v1/vulns", vulnsJSON, nil), "", "vulns", "-o", "sarif")
	var log sarifLog
	if err := json.Unmarshal([]byte(r.stdout), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Tool.Driver.Rules) != 3 || len(log.Runs[0].Results) != 3 {
		t.Fatalf("%s", r.stdout)
	}
	var levels []string
	for _, res := range log.Runs[0].Results {
		levels = append(levels, res.RuleID+" "+res.Level)
		if len(res.Locations) != 1 || res.Locations[0].Physical.Artifact.URI != "go.mod" || res.Message.Text == "" || len(res.Fingerprints) == 0 {
			t.Errorf("%+v", res)
		}
	}
	if got := strings.Join(levels, ", "); got != "GO-2021-0113 error, GO-2022-0969 note, go-unsupported warning" {
		t.Errorf("levels: %s", got)
	}
	if res := log.Runs[0].Results[0]; res.Locations[0].Logical[0].Name != "golang.org/x/text/language.Parse" || !strings.Contains(res.Message.Text, "was seen running in cart") {
		t.Errorf("%+v", res)
	}
}

func TestVulnsOfFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/tiny\n\ngo 1.20\n", "main.go": "package main\n\nfunc main() { println(1) }\n", "text": "no program"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tiny := filepath.Join(dir, "tiny")
	cmd := exec.Command("go", "build", "-o", tiny, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := sonde(t, nil, "", "vulns", "--db", vulnDB, tiny, filepath.Join(dir, "text"))
	if r.code != 0 || !strings.Contains(r.stdout, "no known vulnerabilities by the database of 2023-04-03") || !strings.Contains(r.stderr, "is not a Go program") {
		t.Errorf("%+v", r)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{tiny}, "--db"},
		{[]string{"--db", dir, tiny}, "no Go vulnerability database"},
		{[]string{"--db", dir}, "no Go vulnerability database"},
		{[]string{"--releases", "none"}, "builds.go_releases"},
		{[]string{"--service", "cart", "--db", vulnDB, tiny}, "FILEs are given"},
		{[]string{"--since", "soon"}, "--since"},
		{[]string{"--db", vulnDB, filepath.Join(dir, "none")}, "no such file"},
	} {
		if r := sonde(t, nil, "", append([]string{"vulns"}, tc.args...)...); r.code == 0 || !strings.Contains(r.stderr, tc.want) {
			t.Errorf("%v: %+v, want %q", tc.args, r, tc.want)
		}
	}
}
