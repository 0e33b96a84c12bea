package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/state"
)

func ids(jobs []state.Job) (list []string) {
	for _, j := range jobs {
		list = append(list, j.ID)
	}
	return list
}

func TestJobs_ListsNewestFirstByPagesWithTotals(t *testing.T) {
	db, _ := fresh(t)
	for i := range 10 {
		kind := "backup"
		if i%2 == 1 {
			kind = "restore"
		}
		// Ids in another order than times.
		must(t, db.PutJob(state.Job{ID: fmt.Sprint("j", 9-i), Kind: kind, CreatedAt: epoch.Add(time.Duration(i) * time.Second)}))
	}
	backups := func(j *state.Job) bool { return j.Kind == "backup" }
	none := func(*state.Job) bool { return false }
	for _, c := range []struct {
		filter        func(*state.Job) bool
		offset, limit int
		want          string
		total         int
	}{
		{nil, 0, 0, "[j0 j1 j2 j3 j4 j5 j6 j7 j8 j9]", 10},
		{nil, 0, 3, "[j0 j1 j2]", 10},
		{nil, 8, 3, "[j8 j9]", 10},
		{nil, 10, 3, "[]", 10},
		{nil, 1 << 40, 3, "[]", 10},
		{backups, 0, 2, "[j1 j3]", 5},
		{backups, 4, 0, "[j9]", 5},
		{none, 0, 0, "[]", 0},
	} {
		got, total, err := db.Jobs(c.filter, c.offset, c.limit)
		if err != nil || fmt.Sprint(ids(got)) != c.want || total != c.total {
			t.Errorf("offset %d limit %d: %v of %d, %v; want %v of %d", c.offset, c.limit, ids(got), total, err, c.want, c.total)
		}
	}
	// A job that gets another time is listed once, in its new place.
	must(t, db.PutJob(state.Job{ID: "j9", CreatedAt: epoch.Add(time.Hour)}))
	got, total, err := db.Jobs(nil, 0, 1)
	if err != nil || total != 10 || got[0].ID != "j9" {
		t.Errorf("%v %d %v", ids(got), total, err)
	}
}

func TestPruneJobs_KeepsTheNewestAndTheUnfinished(t *testing.T) {
	db, _ := fresh(t)
	must(t, db.Update(func(tx *state.Tx) error {
		for i := range 1000 {
			j := state.Job{ID: fmt.Sprintf("j%04d", i), CreatedAt: epoch.Add(time.Duration(i) * time.Second)}
			if i%10 != 0 {
				j.FinishedAt = j.CreatedAt
			}
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
		return nil
	}))
	n, err := db.PruneJobs(epoch.Add(500*time.Second), 700, nil) // the oldest 300, but for 30 unfinished
	if n != 270 || err != nil {
		t.Fatalf("pruned %d, %v", n, err)
	}
	n, err = db.PruneJobs(epoch.Add(500*time.Second), 0, func(id string) bool { return id >= "j0400" }) // 300 … 399
	if n != 90 || err != nil {
		t.Fatalf("pruned %d, %v", n, err)
	}
	n, err = db.PruneJobs(epoch.Add(500*time.Second), 0, nil) // 400 … 499
	if n != 90 || err != nil {
		t.Fatalf("pruned %d, %v", n, err)
	}
	if n, err = db.PruneJobs(epoch.Add(500*time.Second), 0, nil); n != 0 || err != nil {
		t.Fatalf("pruned %d, %v", n, err)
	}
	got, total, err := db.Jobs(nil, 0, 0)
	if err != nil || total != 550 || len(got) != 550 || got[549].ID != "j0000" || got[0].ID != "j0999" {
		t.Fatalf("%d left, %v", total, err)
	}
	must(t, db.Check(t.Context()))
}

func fill(b *testing.B, db *state.DB, n int) {
	for at := 0; at < n; at += 5000 {
		must(b, db.Update(func(tx *state.Tx) error {
			for i := at; i < min(at+5000, n); i++ {
				j := state.Job{ID: fmt.Sprintf("backup-%026d", i), Kind: "backup", State: "completed", Actor: "nightly", RequestID: "req-0123456789",
					CreatedAt: epoch.Add(time.Duration(i) * time.Minute), FinishedAt: epoch.Add(time.Duration(i+1) * time.Minute), Attempts: 1,
					Request: []byte(`{"type":"incremental","sources":["bots","botdb"]}`), Result: []byte(`{"files":120000,"bytes":123456789,"stored":234567}`)}
				if i%100 == 0 {
					j.Kind = "restore"
				}
				if err := tx.PutJob(j); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func BenchmarkPutJob(b *testing.B) {
	db, _ := fresh(b)
	fill(b, db, 10_000)
	b.ResetTimer()
	for i := range b.N {
		must(b, db.PutJob(state.Job{ID: fmt.Sprint("b", i), CreatedAt: epoch.Add(time.Duration(i)), Request: []byte(`{"type":"full"}`)}))
	}
}

func BenchmarkJobsOf100k(b *testing.B) {
	db, path := fresh(b)
	fill(b, db, 100_000)
	restores := func(j *state.Job) bool { return j.Kind == "restore" }
	for _, c := range []struct {
		name          string
		filter        func(*state.Job) bool
		offset, limit int
	}{{"first50", nil, 0, 50}, {"last50", nil, 99_950, 50}, {"filtered50", restores, 0, 50}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				got, _, err := db.Jobs(c.filter, c.offset, c.limit)
				if err != nil || len(got) != 50 {
					b.Fatal(len(got), err)
				}
			}
		})
	}
	b.Run("open", func(b *testing.B) {
		must(b, db.Close())
		for range b.N {
			db, err := state.Open(path, repository)
			must(b, err)
			must(b, db.Close())
		}
	})
}
