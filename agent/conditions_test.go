package agent

import (
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestConditions(t *testing.T) {
	args := []string{"serve", "-password=hunter2", "--port", "8080", "--api-token", "t0ken"}
	all := hashed(strings.Join(args, "\x00"))
	environ := []string{"GOGC=50", "GODEBUG=gctrace=1,madvdontneed=1", "DB_PASSWORD=hunter2", "HOME=/root", "ODD", "GOFLAGS=-v", "=C:=x"}
	for _, tc := range []struct {
		name            string
		sendArgs, sends []string
		args            []string
		want            map[string]string
	}{
		{"by default only a hash of the arguments", nil, nil, args, map[string]string{"args": all}},
		{"no arguments", nil, nil, nil, map[string]string{}},
		{"listed flags, but no secrets", []string{"port", "pass*", "api-token"}, nil, args, map[string]string{"args": "-password=" + hashed("hunter2") + " --port 8080 --api-token " + hashed("t0ken") + " " + all}},
		{"all arguments are listed", []string{"port"}, nil, []string{"--port", "80"}, map[string]string{"args": "--port 80"}},
		{"words with spaces", []string{"greeting"}, nil, []string{"--greeting", "good \"day\"\n"}, map[string]string{"args": `--greeting "good \"day\"\n"`}},
		{"listed variables, but no secrets", nil, []string{"DB_*", "HOME"}, nil, map[string]string{"env_DB_PASSWORD": hashed("hunter2"), "env_HOME": "/root"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := conditions(&Config{SendArgs: tc.sendArgs, SendEnv: tc.sends}, tc.args, environ)
			want := maps.Clone(tc.want)
			maps.Copy(want, map[string]string{"env_GOGC": "50", "env_GODEBUG": "gctrace=1,madvdontneed=1", "gomaxprocs": strconv.Itoa(runtime.GOMAXPROCS(0))})
			if got["gogc"] == "" {
				t.Error("gogc is missing")
			}
			for _, machine := range []string{"gogc", "gomemlimit", "cgroup_cpu", "cgroup_memory"} {
				delete(got, machine)
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

func TestConditionsHaveBounds(t *testing.T) {
	var environ []string
	for i := range 1000 {
		environ = append(environ, "V"+strconv.Itoa(i)+"="+strings.Repeat("ä", 10_000))
	}
	got := conditions(&Config{SendEnv: []string{"*"}}, nil, environ)
	if len(got) > maxConditions+5 {
		t.Errorf("%d conditions", len(got))
	}
	for name, value := range got {
		if len(value) > MaxLabelValue || !utf8.ValidString(value) {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
	if a, b := short(strings.Repeat("a", 5000)+"x"), short(strings.Repeat("a", 5000)+"y"); a == b {
		t.Error("a change at the end of a long value does not show")
	}
}

// TestConditionsLeaveRedacted checks the object that is sent.
func TestConditionsLeaveRedacted(t *testing.T) {
	p, problems := newPrivacy(&Config{Redact: []string{`gctrace=\d`}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	info := &processInfo{Labels: map[string]string{"service_name": "cart"}, Conditions: map[string]string{"env_GODEBUG": "gctrace=1"}}
	before := info.Conditions
	p.process(info)
	if got := info.Conditions["env_GODEBUG"]; got != redacted || before["env_GODEBUG"] != "gctrace=1" {
		t.Errorf("sent %q, kept %q", got, before["env_GODEBUG"])
	}
}

func TestChooseInstance(t *testing.T) {
	const id = "9f86d081884c7d659a2feaa0c55ad015"
	for _, tc := range []struct {
		name, value string
		taken       bool
		problem     string
	}{
		{"the launcher is the parent", id + ":4711", true, ""},
		{"a child of the launched program", id + ":12", false, ""},
		{"nothing", "", false, ""},
		{"no pid", id, false, "want 32 hex digits"},
		{"no number", id + ":x", false, "want 32 hex digits"},
		{"too short", "9f86:4711", false, "want 32 hex digits"},
		{"upper case", strings.ToUpper(id) + ":4711", false, "want 32 hex digits"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(instanceVariable, tc.value)
			got, problem := chooseInstance(env(instanceVariable, tc.value), 4711)
			if (got == id) != tc.taken || len(got) != 32 || !strings.Contains(problem, tc.problem) || (problem == "") != (tc.problem == "") {
				t.Errorf("instance %s, problem %q", got, problem)
			}
		})
	}
	if a, b := newInstance(), newInstance(); a == b {
		t.Error("two processes have the same id")
	}
}

func TestSecretNames(t *testing.T) {
	for _, name := range []string{"--api-token", "-Password", "--db.passwd", "--tls-key", "--basic_auth", "DSN"} {
		if !secret(name) {
			t.Errorf("%s may be sent", name)
		}
	}
	if names := []string{"--port", "-v", "GOGC"}; slices.ContainsFunc(names, secret) {
		t.Errorf("one of %v is a secret", names)
	}
}

// FuzzConditions: whatever a process is started with, no value that may be a secret is among what is told.
func FuzzConditions(f *testing.F) {
	f.Add("serve --verbose --port 80", "GOGC=50\nDB_PASSWORD=hunter2", "9f86d081884c7d659a2feaa0c55ad015:4711")
	f.Add("-token x -- -password", "=\n=x\nA", ":")
	f.Fuzz(func(t *testing.T, args, environ, variable string) {
		words := strings.Fields(args)
		for name, value := range conditions(&Config{SendArgs: []string{"port"}, SendEnv: []string{"*"}}, words, strings.Split(environ, "\n")) {
			if len(value) > MaxLabelValue || !utf8.ValidString(value) {
				t.Errorf("%s is %q", name, value)
			}
		}
		told := knownArgs([]string{"*"}, append(words, "--password", "hunter2hunter2", "-token=hunter2hunter2"))
		if strings.Contains(told, "hunter2hunter2") && !strings.Contains(args, "hunter2hunter2") {
			t.Errorf("a secret is told: %s", told)
		}
		if id, problem := chooseInstance(env(instanceVariable, variable), -1); len(id) != 32 || problem == "" && variable != "" && len(variable) < 34 {
			t.Errorf("instance %q, problem %q of %q", id, problem, variable)
		}
	})
}
