package catalog

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// killEnv makes the test binary the program that is killed: its value is the catalogue's path and the first window's number.
const killEnv = "SONDE_TEST_CATALOG_KILL"

func TestMain(m *testing.M) {
	if arg := os.Getenv(killEnv); arg != "" {
		if err := registerForEver(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" // which listens for signals to the end
	if leaked := waitForGoroutines(before); leaked != "" && code == 0 && !fuzzing {
		fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s\n", leaked)
		code = 1
	}
	os.Exit(code)
}

// waitForGoroutines returns the stacks of all goroutines if there are more than most and stay so, else "".
func waitForGoroutines(most int) string {
	for range 500 {
		if runtime.NumGoroutine() <= most {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// registerForEver registers block after block and says on standard output which are committed.
func registerForEver(arg string) error {
	path, first, _ := strings.Cut(arg, "|")
	n, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return err
	}
	ctx := context.Background()
	db, err := OpenSQLite(ctx, path)
	if err != nil {
		return err
	}
	for ; ; n++ {
		b := block(fmt.Sprintf("%08d", n), 0, 1, 2, "s", "t")
		r := Registration{Block: &b, Keys: []Key{{Instance: "i", Window: n}}, Processes: []Process{{Instance: fmt.Sprint("p", n), Service: "s"}}}
		if err := db.Register(ctx, r); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKilledProgramLosesNothingCommitted kills a real process with SIGKILL in the middle of its registrations, time and again.
func TestKilledProgramLosesNothingCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	acked := map[uint64]bool{}
	next := uint64(1)
	for round := range 5 {
		next = runAndKill(t, path, next, 20+37*round, acked) + 2 // the one in flight may have been committed
		verifyKilled(t, path, acked, next)
	}
	if len(acked) < 100 {
		t.Errorf("only %d registrations", len(acked))
	}
}

// runAndKill starts the program at window first, kills it after count answers and returns the last one answered.
func runAndKill(t *testing.T, path string, first uint64, count int, acked map[uint64]bool) (last uint64) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killEnv+"="+path+"|"+strconv.FormatUint(first, 10))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		last, err = strconv.ParseUint(lines.Text(), 10, 64)
		must(t, err)
		acked[last] = true
		if n == count {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("program ended by itself: %v %s", err, &stderr)
	}
	return last
}

func verifyKilled(t *testing.T, path string, acked map[uint64]bool, next uint64) {
	t.Helper()
	db, err := OpenSQLite(t.Context(), path)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	clean(t, db)
	blocks, err := db.Blocks(t.Context(), BlockFilter{})
	must(t, err)
	live := map[uint64]bool{}
	for _, b := range blocks {
		n, err := strconv.ParseUint(b.ID, 10, 64)
		must(t, err)
		live[n] = true
		if len(b.Datasets) != 2 {
			t.Errorf("block %s has %d datasets, want 2: a transaction was torn", b.ID, len(b.Datasets))
		}
		if _, err := db.Process(t.Context(), fmt.Sprint("p", n)); err != nil {
			t.Errorf("block %s without its process: a transaction was torn: %v", b.ID, err)
		}
	}
	for n := uint64(1); n < next; n++ {
		seen, err := db.Seen(t.Context(), []Key{{Instance: "i", Window: n}})
		must(t, err)
		if acked[n] && !live[n] {
			t.Errorf("registration %d was answered and is gone", n)
		}
		if live[n] != seen[0] {
			t.Errorf("registration %d: block %v, key %v: a transaction was torn", n, live[n], seen[0])
		}
	}
}
