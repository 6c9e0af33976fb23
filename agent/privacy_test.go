package agent

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/agent/internal/cputime"
)

// TestPrivacyOfSamples checks that labels go and values are redacted in every place that they leave by, and that nothing of them is left in the bytes.
func TestPrivacyOfSamples(t *testing.T) {
	c := newCollector(t)
	c.offer(pollOffered)
	a := quick(t, c, time.Hour, Config{Types: []Type{CPU, Goroutine}, KeepLabels: []string{"route", "user_*"}, DropLabels: []string{"user_mail"},
		Redact: []string{`[0-9]{4}-[0-9]{4}`, `token=\w+`}, Labels: map[string]string{"note": "card 1234-5678"}})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pprof.Do(context.Background(), pprof.Labels("route", "/pay?token=s3cret", "user_id", "7", "user_mail", "who@example.com", "other", "0ther"), func(context.Context) {
			for !isClosed(stop) {
				burn(time.Now().Add(10 * time.Millisecond))
			}
		})
	}()
	burned := cputime.Process() + 400*time.Millisecond
	wait(t, "some CPU to be used", func() bool { return cputime.Process() > burned })
	a.rec.mu.Lock()
	a.rec.capture(time.Now(), true)
	a.rec.mu.Unlock()
	wait(t, "the poll", func() bool { return c.broker.polled() > 0 })
	outputs := map[string][]byte{}
	for _, kind := range []string{"cpu", "goroutine"} {
		for tries := 0; tries < 20 && !bytes.Contains(outputs["capture "+kind], []byte("route")); tries++ { // a machine that is busy enough lets nobody burn
			r := taken(t, c, task{Kind: kind, DurationMS: 300})
			if r.problem != "" {
				t.Fatal(r.problem)
			}
			outputs["capture "+kind] = gunzip(t, r.body)
		}
	}
	close(stop)
	<-done
	p := c.stored()[0]
	outputs["window cpu"], outputs["window goroutine"] = p.data[CPU], p.data[Goroutine]
	for name, raw := range outputs {
		found := map[string]string{}
		for _, s := range readSamples(t, raw) {
			if len(s.labels) > 0 {
				maps.Copy(found, s.labels)
			}
		}
		if fmt.Sprint(found) != "map[route:/pay?[redacted] user_id:7]" {
			t.Errorf("%s: labels %v", name, found)
		}
		for _, secret := range []string{"s3cret", "who@example.com", "0ther", "user_mail"} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s: %q is in the bytes", name, secret)
			}
		}
	}
	if got := p.process.Labels["note"]; got != "card [redacted]" {
		t.Errorf("the process's label: %q", got)
	}
}

// TestWrongPatternsLetNothingOut checks that a mistake in a pattern costs data and not secrets.
func TestWrongPatternsLetNothingOut(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cfg     Config
		problem string
	}{
		{"redact", Config{Redact: []string{"("}}, "everything is redacted"},
		{"redact everywhere", Config{Redact: []string{"x*"}}, "matches the empty text"},
		{"drop", Config{DropLabels: []string{"[a"}}, "no label of a sample is sent"},
		{"keep", Config{KeepLabels: []string{"[a", "who"}}, "no label of a sample is sent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, problems := newPrivacy(&tc.cfg)
			if len(problems) != 1 || !strings.Contains(problems[0], tc.problem) {
				t.Errorf("problems %q", problems)
			}
			if value, stays := p.filter()("who", "me"); stays && value != redacted {
				t.Errorf("the label is sent as %q", value)
			}
			info := &processInfo{Labels: map[string]string{"service_name": "cart", "note": "n"}, BuildInfo: "a\nb", Exe: "/e"}
			p.process(info)
			if p.all && (info.Labels["note"] != redacted || info.BuildInfo != redacted+"\n"+redacted || info.Exe != redacted || info.Labels["service_name"] != "cart") {
				t.Errorf("process %+v", info)
			}
		})
	}
}

func TestListedArgsAndEnvironment(t *testing.T) {
	args := []string{"serve", "-password=hunter2", "--port", "8080", "--verbose", "--config.file=/etc/x.yml", "-n", "-5", "--", "--port", "9"}
	environ := []string{"GOGC=50", "DB_PASSWORD=hunter2", "GOMEMLIMIT=1GiB", "ODD", "GOFLAGS=-v"}
	for _, tc := range []struct {
		args, env []string
		want      string
	}{
		{nil, nil, "map[]"},
		{[]string{"port"}, nil, "map[process_command_args:--port 8080]"},
		{[]string{"config.*", "verbose", "n", "nothing"}, nil, "map[process_command_args:--verbose --config.file=/etc/x.yml -n]"},
		{nil, []string{"GOGC", "GOMEM*"}, "map[process_environment_variable_GOGC:50 process_environment_variable_GOMEMLIMIT:1GiB]"},
	} {
		if got := fmt.Sprint(listed(&Config{SendArgs: tc.args, SendEnv: tc.env}, args, environ)); got != tc.want {
			t.Errorf("args %v, env %v: %s, want %s", tc.args, tc.env, got, tc.want)
		}
	}
}

// TestCommandLineAndEnvironmentStay looks for this process's own arguments and environment in everything that an agent sends.
func TestCommandLineAndEnvironmentStay(t *testing.T) {
	const secret = "sonde-test-secret-4711"
	t.Setenv("SONDE_TEST_SECRET", secret)
	before := os.Args
	os.Args = append(slices.Clone(os.Args), "--secret="+secret)
	defer func() { os.Args = before }()
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.tried() {
		if bytes.Contains(p.body, []byte(secret)) {
			t.Error("it is in the body of the push")
		}
		for typ, raw := range p.data {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("it is in the %s profile", typ)
			}
		}
	}
}

func FuzzPrivacyText(f *testing.F) {
	f.Add("id=1234 x\ny id=5\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, _ := newPrivacy(&Config{Redact: []string{`id=[0-9]+`}})
		out := string(p.lines([]byte(text)))
		if strings.Count(out, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q becomes %q: other lines", text, out)
		}
		if i := strings.Index(out, "id="); i >= 0 && i+3 < len(out) && out[i+3] >= '0' && out[i+3] <= '9' {
			t.Errorf("%q becomes %q", text, out)
		}
	})
}
