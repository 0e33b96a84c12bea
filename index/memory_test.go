package index_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/generalbots/backupd/index"
)

// memoryEnv names the index that a child process opens, to say how much memory that takes.
const memoryEnv = "BACKUPD_INDEX_MEMORY_OF"

func TestMain(m *testing.M) {
	if dir := os.Getenv(memoryEnv); dir != "" {
		if err := printMemory(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(addEnv); dir != "" {
		fmt.Fprintln(os.Stderr, addUntilKilled(dir))
		os.Exit(1)
	}
	if spec := os.Getenv(fullEnv); spec != "" {
		if err := fillDisk(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func printMemory(dir string) error {
	x, err := index.Open(options(dir))
	if err != nil {
		return err
	}
	defer x.Close()
	opened, err := anonymousMemory()
	if err != nil {
		return err
	}
	for i := range uint32(10000) {
		if _, _, err := x.Lookup(chunkID(i%100, i/100)); err != nil {
			return err
		}
	}
	used, err := anonymousMemory()
	if err != nil {
		return err
	}
	var written int64
	for p := range uint32(400) {
		if err := x.AddPack(packID(1<<20+p), packEntries(1<<20+p, packSize)); err != nil {
			return err
		}
		now, err := anonymousMemory()
		if err != nil {
			return err
		}
		written = max(written, now)
	}
	debug.FreeOSMemory()
	fmt.Println(opened, used, written)
	return nil
}

// anonymousMemory returns the RssAnon of this process in bytes.
func anonymousMemory() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			var kb int64
			_, err := fmt.Sscanf(rest, "%d kB", &kb)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no RssAnon in /proc/self/status")
}

func TestOpen_TakesLittleMemory(t *testing.T) {
	const (
		limit   = 30 << 20
		writing = 32 << 20 // 16 were measured
	)
	dir := t.TempDir()
	build(t, dir, min(benchPacks(t), 200))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), memoryEnv+"="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var opened, used, written int64
	if _, err := fmt.Sscan(string(out), &opened, &used, &written); err != nil {
		t.Fatalf("child said %q: %v", out, err)
	}
	t.Logf("anonymous memory: open %d KiB, after 10000 look-ups %d KiB, at most, while adding 400 packs, %d KiB", opened>>10, used>>10, written>>10)
	if written > writing {
		t.Errorf("an index that is written takes up to %d KiB of anonymous memory, want at most %d", written>>10, writing>>10)
	}
	if opened > limit {
		t.Errorf("an open index takes %d KiB of anonymous memory, want at most %d", opened>>10, limit>>10)
	}
}
