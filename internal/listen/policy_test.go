package listen_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/internal/listen"
)

func TestWhoMayListenWhere(t *testing.T) {
	closed := func(p listen.Policy) listen.Policy {
		p.TokenFile, p.TLSCertFile, p.TLSKeyFile = "token", "cert", "key"
		return p
	}
	for _, tc := range []struct {
		p    listen.Policy
		want string // "" for yes, else part of the error
	}{
		{listen.Policy{Address: "127.0.0.1:7070"}, ""},
		{listen.Policy{Address: "127.9.9.9:0"}, ""},
		{listen.Policy{Address: "[::1]:7070"}, ""},
		{listen.Policy{Address: "[::ffff:127.0.0.1]:7070"}, ""},
		{listen.Policy{Address: "localhost:7070"}, ""},
		{listen.Policy{Address: "unix:/run/sonde.sock"}, ""},
		{listen.Policy{Address: ":7070"}, "lacks a token (token_file) and TLS"},
		{listen.Policy{Address: "0.0.0.0:7070"}, "not loopback"},
		{listen.Policy{Address: "[::]:7070"}, "not loopback"},
		{listen.Policy{Address: "10.0.0.5:7070"}, "not loopback"},
		{listen.Policy{Address: "localhost.example.org:7070"}, "not loopback"},
		{listen.Policy{Address: "10.0.0.5:7070", TokenFile: "t"}, "lacks TLS"},
		{listen.Policy{Address: "10.0.0.5:7070", TLSCertFile: "c", TLSKeyFile: "k"}, "lacks a token"},
		{closed(listen.Policy{Address: "10.0.0.5:7070"}), ""},
		{closed(listen.Policy{Address: ":7070"}), ""},
		{listen.Policy{Address: ":7070", Insecure: true}, ""},
		{listen.Policy{Address: "127.0.0.1:7070", TLSCertFile: "c"}, "go together"},
		{listen.Policy{Address: ":7070", TLSKeyFile: "k", Insecure: true}, "go together"},
		{listen.Policy{Address: "7070"}, "missing port"},
		{listen.Policy{Address: "unix:"}, "no path"},
	} {
		err := tc.p.Check()
		if tc.want == "" {
			if err != nil {
				t.Errorf("Check(%+v) = %v, want none", tc.p, err)
			}
			continue
		}
		e, ok := errors.AsType[*listen.Error](err)
		if !ok || !strings.Contains(err.Error(), tc.want) || e.Hint() == "" {
			t.Errorf("Check(%+v) = %v, want %q and a hint", tc.p, err, tc.want)
		}
		if strings.Contains(tc.want, "lacks") && !errors.Is(err, listen.ErrOpen) {
			t.Errorf("Check(%+v) = %v, want ErrOpen", tc.p, err)
		}
	}
}

func TestTokenFiles(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"0123456789abcdef\n":   "",
		"":                     "is empty",
		"  \n":                 "is empty",
		"short":                "at least 16",
		"0123456789 abcdefghi": "has a space",
		"0123456789abcdefä":    "not ASCII",
	} {
		file := filepath.Join(dir, "token")
		must(t, os.WriteFile(file, []byte(content), 0o600))
		l, err := listen.Open(t.Context(), listen.Policy{Address: "127.0.0.1:0", TokenFile: file}, nil)
		if err == nil {
			must(t, l.Close())
			must(t, l.Close())
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("token %q: %v, want %q", content, err, want)
		}
	}
	_, err := listen.Open(t.Context(), listen.Policy{Address: "127.0.0.1:0", TokenFile: filepath.Join(dir, "missing")}, nil)
	if e, ok := errors.AsType[*listen.Error](err); !ok || !errors.Is(err, os.ErrNotExist) || !strings.Contains(e.Hint(), "openssl rand") {
		t.Errorf("missing token file: %v", err)
	}
}

func TestAddressInUse(t *testing.T) {
	sock := "unix:" + filepath.Join(t.TempDir(), "s.sock")
	for _, addr := range []string{"127.0.0.1:0", sock} {
		l, err := listen.Open(t.Context(), listen.Policy{Address: addr}, nil)
		must(t, err)
		defer l.Close()
		again := addr
		if addr != sock {
			again = l.Addr().String()
		}
		_, err = listen.Open(t.Context(), listen.Policy{Address: again}, nil)
		if e, ok := errors.AsType[*listen.Error](err); !ok || !strings.Contains(e.Hint(), "another sonde") {
			t.Errorf("listen twice on %s: %v", again, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
