package backup_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/internal/store"
)

func TestRun_AllocatesNothingForUnchangedFiles(t *testing.T) {
	const files = 20_000
	v := newVault(t, store.NewMem())
	names := make(map[string][]byte)
	src := &synthetic{dirs: 1, perDir: files, at: source.Time{Sec: time.Now().Unix() - 1000, Nsec: 1},
		content: func(name string) []byte { return names[name] }}
	for i := range files {
		names[fmt.Sprintf("file%06d-%06d", 0, i)] = []byte("the same")
	}
	clean(t, v.run(t, src, backup.Full))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	clean(t, v.run(t, src, backup.Incremental))
	runtime.ReadMemStats(&after)
	// The source makes the name of each file: two allocations.
	if per := float64(after.Mallocs-before.Mallocs) / files; per > 2.5 {
		t.Errorf("got %.2f allocations for each unchanged file, want the two of the source", per)
	}
}

func TestRun_MemoryDoesNotGrowWithTheNumberOfFiles(t *testing.T) {
	peak := func(dirs int) uint64 {
		st, err := store.MakeDir(t.Context(), t.TempDir())
		must(t, err)
		t.Cleanup(func() { st.Close() })
		v := newVault(t, st)
		same := []byte("the same content in every file, so that no table grows")
		var most uint64
		src := &synthetic{dirs: dirs, perDir: 200, content: func(string) []byte { return same },
			at: source.Time{Sec: time.Now().Unix() - 1000, Nsec: 1}}
		src.seen = func(n int) {
			if n%(dirs*40) != 0 {
				return
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		clean(t, v.run(t, src, backup.Full))
		clean(t, v.run(t, src, backup.Incremental))
		return most
	}
	small, big := peak(10), peak(100)
	if big > small+8<<20 {
		t.Errorf("got %d bytes of heap for 2,000 files and %d for 20,000", small, big)
	}
}
