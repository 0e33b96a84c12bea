package repo

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestIDSource_IDsAscendWhateverTheClockDoes(t *testing.T) {
	s := NewIDSource()
	last := ""
	for i, now := range []time.Time{
		testNow, testNow, testNow.Add(time.Hour), testNow, testNow.Add(-1000 * time.Hour), time.Unix(-5, 0), {}, testNow.Add(2 * time.Hour),
	} {
		for range 100 {
			id, err := s.Next(now)
			if err != nil {
				t.Fatal(err)
			}
			if !IsSnapshotID(id) || id <= last {
				t.Fatalf("clock %d: got %s after %s", i, id, last)
			}
			last = id
		}
	}
	if _, err := s.Next(time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a time beyond ULIDs gave an id")
	}
}

func TestIDSource_IDsOfManyGoroutinesDiffer(t *testing.T) {
	s := NewIDSource()
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				id, err := s.Next(testNow)
				mu.Lock()
				if err != nil || seen[id] {
					t.Errorf("got %s twice, or %v", id, err)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestIsSnapshotID_HasOneSpelling(t *testing.T) {
	id := testID(7)
	if !IsSnapshotID(id) {
		t.Errorf("%s is refused", id)
	}
	for _, s := range []string{
		"", "backup-", id[:len(id)-1], id + "0", strings.ToUpper(id), "backup-" + strings.ToUpper(id[7:]), id[7:],
		"backup-8" + id[8:], "backup-" + strings.Repeat("u", 26), "restore-" + id[7:], id + "\n", " " + id,
	} {
		if IsSnapshotID(s) {
			t.Errorf("%q is taken as a snapshot id", s)
		}
	}
}

func TestResolve_TakesUniqueBeginnings(t *testing.T) {
	var list []*Snapshot
	for _, text := range []string{"01jz00000000000000000000a0", "01jz00000000000000000000b0", "01k000000000000000000000c0"} {
		list = append(list, &Snapshot{Manifest: Manifest{ID: "backup-" + text, CreatedAt: testNow}})
	}
	for query, want := range map[string]int{
		"latest": 2, "backup-01jz00000000000000000000a0": 0, "01jz00000000000000000000b0": 1, "01k": 2, "backup-01k": 2,
		"01K": 2, "BACKUP-01JZ00000000000000000000A": 0,
	} {
		if got, err := resolveSnapshot(list, query); err != nil || got != list[want] {
			t.Errorf("%s: got %v, %v, want %s", query, got, err, list[want].ID)
		}
	}
	for query, want := range map[string]string{
		"":              "the latest is backup-01k000000000000000000000c0 of 2026-03-04T05:06:07Z",
		"backup-":       "the latest is",
		"b":             "the latest is",
		"02":            "the latest is",
		"Latest":        "the latest is",
		"01jz":          "2 begin so: backup-01jz00000000000000000000b0 of 2026-03-04T05:06:07Z, backup-01jz00000000000000000000a0 of",
		"01":            "3 begin so",
		testID(1) + "0": "the latest is",
	} {
		_, err := resolveSnapshot(list, query)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want ErrNotFound with %q", query, err, want)
		}
	}
	for range 9 {
		list = append(list, list[2])
	}
	if _, err := resolveSnapshot(list, "01k"); err == nil || !strings.Contains(err.Error(), "10 begin so") || !strings.Contains(err.Error(), "and 5 older") {
		t.Errorf("many candidates: got error %v", err)
	}
	for _, query := range []string{"latest", "01"} {
		if _, err := resolveSnapshot(nil, query); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no snapshot yet") {
			t.Errorf("%q of none: got error %v", query, err)
		}
	}
}

func TestResolve_SaysThatASnapshotWasForgotten(t *testing.T) {
	c := newTestChain(t)
	id := c.snapshot(c.a)
	c.snapshot(c.a)
	c.forget(c.a, id)
	if _, err := c.load().resolve(id); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "undelete") {
		t.Errorf("got error %v, want that it was forgotten", err)
	}
}
