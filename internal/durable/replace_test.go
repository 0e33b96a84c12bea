package durable_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/generalbots/backupd/internal/durable"
)

// Two processes may replace one file of a state directory at the same time.
// Whoever is last wins; nobody ever sees a part of one, or a mix.
func TestReplaceFile_OfSeveralAtOnceIsNeverTorn(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		f, err := durable.OS(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		data := bytes.Repeat([]byte{byte('a' + i)}, 300_000+i)
		wg.Go(func() {
			for range 60 {
				if err := durable.ReplaceFile(f, "head", data); err != nil {
					t.Errorf("writer %d: %v", i, err)
					return
				}
			}
		})
	}
	f, err := durable.OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	go func() { wg.Wait(); close(stop) }()
	for done := false; !done; {
		select {
		case <-stop:
			done = true
		default:
		}
		b, err := durable.ReadFile(f, "head", 1<<20)
		if err != nil {
			continue // not there yet
		}
		seen++
		if len(b) == 0 || len(b) != 300_000+int(b[0]-'a') || bytes.Count(b, b[:1]) != len(b) {
			t.Fatalf("%d bytes were found that nobody wrote", len(b))
		}
	}
	if err := durable.WriteFile(f, "other-0123456789abcdef.tmp", nil); err != nil {
		t.Fatal(err)
	}
	stale, err := f.Create("head-0123456789abcdef.tmp")
	if err != nil {
		t.Fatal(err)
	}
	stale.Close()
	if err := durable.SweepFiles(f, "head"); err != nil {
		t.Fatal(err)
	}
	if err := f.Unlink("other-0123456789abcdef.tmp"); err != nil {
		t.Errorf("a file of another name was swept: %v", err)
	}
	if list, err := f.ReadDir(""); err != nil || len(list) != 1 || seen == 0 {
		t.Errorf("left over: %v, %v (%d seen)", list, err, seen)
	}
}
