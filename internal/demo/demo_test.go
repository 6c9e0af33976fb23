package demo

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/demo/billing"
	"github.com/sonde-io/sonde/internal/demo/checkout"
	"github.com/sonde-io/sonde/internal/demo/service"
)

// TestMain makes this test binary a service where a test starts it as one.
func TestMain(m *testing.M) {
	switch os.Getenv("DEMO_TEST") {
	case "billing":
		if err := billing.Main("127.0.0.1:0"); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	case "deaf": // neither SIGTERM nor the end of its input ends it
		ignoreTerm()
		os.Stdout.WriteString(service.Ready + " nowhere\n")
		time.Sleep(time.Minute)
	case "broken":
		os.Stderr.WriteString("cannot go on\n")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func spec(t *testing.T, mode string) (Spec, *buffer) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := new(buffer)
	return Spec{Name: mode, Version: "v1", Exe: exe, Env: []string{"DEMO_TEST=" + mode}, Log: log}, log
}

func TestProcessServesUnderLoadAndStops(t *testing.T) {
	t.Setenv("SONDE_SERVICE", "the user's own") // must not reach the services
	s, log := spec(t, "billing")
	p, err := Start(t.Context(), s)
	if err != nil {
		t.Fatalf("Start: %v\n%s", err, log)
	}
	defer p.Stop(0)
	for _, kv := range environ() {
		if strings.HasPrefix(kv, "SONDE_") {
			t.Errorf("a service gets %s", kv)
		}
	}

	load := BillingLoad()
	ctx, cancel := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	loading.Go(func() { load.Run(ctx, func() string { return p.Addr }) })
	for ok := int64(0); ok < 5; ok, _ = load.Counts() {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	loading.Wait()
	// The request that was under way at the end may have failed.
	if ok, failed := load.Counts(); failed > 1 {
		t.Errorf("%d requests answered, %d failed", ok, failed)
	}

	p.Stop(10 * time.Second)
	p.Stop(10 * time.Second)
	if p.waitErr != nil {
		t.Errorf("the service ended with %v, want a clean end", p.waitErr)
	}
}

func TestProcessEndsWithItsInput(t *testing.T) {
	s, _ := spec(t, "billing")
	p, err := Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	p.stdin.Close() // as when the demo is killed
	<-p.Done()
}

func TestProcessDeafToTermIsKilled(t *testing.T) {
	s, _ := spec(t, "deaf")
	p, err := Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(50 * time.Millisecond)
	if p.waitErr == nil {
		t.Error("a killed service ended cleanly")
	}
}

func TestProcessThatDoesNotStart(t *testing.T) {
	s, log := spec(t, "broken")
	_, err := Start(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Start = %v, want the exit status", err)
	}
	if got := log.String(); !strings.Contains(got, "cannot go on") {
		t.Errorf("log = %q, want what the service said", got)
	}
	s.Exe = filepath.Join(t.TempDir(), "none")
	if _, err := Start(t.Context(), s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start of a missing program = %v", err)
	}
}

// TestBuildCheckout builds the second version, runs it, and looks at what a diff needs: the first version's function and file names.
func TestBuildCheckout(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	exe, err := BuildCheckout(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if info.Main.Path != modulePath {
		t.Errorf("module = %q, want %q", info.Main.Path, modulePath)
	}
	root, _ := sourceRoot()
	symbols, err := exec.Command("go", "tool", "nm", exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	if fn := modulePath + "/internal/demo/checkout.discount"; !bytes.Contains(symbols, []byte(fn+"\n")) {
		t.Errorf("no function %s in the second version", fn)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if file := root + "/internal/demo/checkout/checkout.go"; !bytes.Contains(data, []byte(file)) {
		t.Errorf("no file %s in the second version", file)
	}

	s, log := spec(t, "checkout")
	s.Exe, s.Args, s.Version = exe, []string{"127.0.0.1:0"}, "v2"
	p, err := Start(t.Context(), s)
	if err != nil {
		t.Fatalf("Start: %v\n%s", err, log)
	}
	defer p.Stop(5 * time.Second)
	_, order := CheckoutLoad().Make(1)
	body, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+p.Addr+"/order", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var receipt checkout.Receipt
	if err := json.NewDecoder(resp.Body).Decode(&receipt); err != nil {
		t.Fatal(err)
	}
	if receipt.Version != "v2" || receipt.Total == 0 {
		t.Errorf("receipt = %+v, want one of v2", receipt)
	}
}

func TestBuildCheckoutWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := BuildCheckout(t.Context(), t.TempDir()); !errors.Is(err, ErrNoGo) {
		t.Errorf("BuildCheckout without a go command = %v, want ErrNoGo", err)
	}
}

func TestBuildCheckoutCancelled(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := BuildCheckout(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("BuildCheckout = %v, want that it was cancelled", err)
	}
}
