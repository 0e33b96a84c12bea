package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/state"
)

// model is what a state file should hold, in maps.
type model struct {
	jobs      map[string]state.Job
	schedules map[string]state.Schedule
	answers   map[string]state.Answer
	expiries  map[string]state.Expiry
	verified  map[string]state.Verification
}

func newModel() *model {
	return &model{map[string]state.Job{}, map[string]state.Schedule{}, map[string]state.Answer{}, map[string]state.Expiry{}, map[string]state.Verification{}}
}

func (m *model) clone() *model {
	return &model{maps.Clone(m.jobs), maps.Clone(m.schedules), maps.Clone(m.answers), maps.Clone(m.expiries), maps.Clone(m.verified)}
}

// act does one random thing to both and compares the errors.
func act(t *testing.T, r *rand.Rand, tx *state.Tx, m *model) {
	t.Helper()
	id := fmt.Sprint("id", r.IntN(60))
	at := epoch.Add(time.Duration(r.IntN(1000)) * time.Second)
	same := func(err error, there bool) {
		t.Helper()
		if there != (err == nil) || !there && !errors.Is(err, state.ErrNotFound) {
			t.Fatalf("%s: %v, there: %v", id, err, there)
		}
	}
	switch r.IntN(11) {
	case 0, 1, 2:
		j := state.Job{ID: id, Kind: "backup", CreatedAt: at, Attempts: r.IntN(3), ErrorMessage: strings.Repeat("é<\"\n", r.IntN(3000)),
			Request: json.RawMessage(fmt.Sprintf(`{"n":%d,"text":"%s"}`, r.Uint64(), strings.Repeat("x", r.IntN(20)*r.IntN(2000))))}
		if r.IntN(2) == 0 {
			j.FinishedAt = at.Add(time.Minute)
		}
		must(t, tx.PutJob(j))
		m.jobs[id] = j
	case 3:
		_, there := m.jobs[id]
		same(tx.DeleteJob(id), there)
		delete(m.jobs, id)
	case 4:
		s := state.Schedule{ID: id, Cron: "@daily", Tags: []string{"a", id}, Enabled: r.IntN(2) == 0, CreatedAt: at, LastRun: at}
		must(t, tx.PutSchedule(s))
		m.schedules[id] = s
	case 5:
		_, there := m.schedules[id]
		same(tx.DeleteSchedule(id), there)
		delete(m.schedules, id)
	case 6:
		a := state.Answer{Principal: "p", Method: "POST", Path: "/" + id, CreatedAt: at, Status: r.IntN(500), Body: []byte(strings.Repeat("\x00\xff", 1+r.IntN(100)))}
		old, err := tx.Reserve(id, a)
		must(t, err)
		if have, there := m.answers[id]; there != (old != nil) || there && !reflect.DeepEqual(*old, have) {
			t.Fatalf("answer %s: %+v, want %+v", id, old, have)
		} else if !there {
			m.answers[id] = a
		}
	case 7:
		a := state.Answer{Principal: "p", Status: 201, Resource: id, CreatedAt: at}
		must(t, tx.PutAnswer(id, a))
		m.answers[id] = a
	case 8:
		_, there := m.answers[id]
		same(tx.DeleteAnswer("p", id), there)
		delete(m.answers, id)
	case 9:
		e := state.Expiry{BackupID: id, ExpiresAt: at, ScheduleID: "s"}
		v := state.Verification{BackupID: id, State: "verified", At: at, Report: json.RawMessage(`{"ok":true}`)}
		must(t, errors.Join(tx.PutExpiry(e), tx.PutVerification(v)))
		m.expiries[id], m.verified[id] = e, v
	case 10:
		must(t, errors.Join(tx.DeleteExpiry(id), tx.DeleteVerification(id)))
		delete(m.expiries, id)
		delete(m.verified, id)
	}
}

// compare holds the whole file against the model.
func compare(t *testing.T, db *state.DB, m *model) {
	t.Helper()
	got, total, err := db.Jobs(nil, 0, 0)
	must(t, err)
	if total != len(m.jobs) || len(got) != total {
		t.Fatalf("%d of %d jobs, want %d", len(got), total, len(m.jobs))
	}
	for i, j := range got {
		if !reflect.DeepEqual(j, m.jobs[j.ID]) {
			t.Fatalf("job %s: %+v, want %+v", j.ID, j, m.jobs[j.ID])
		}
		if i > 0 && (j.CreatedAt.After(got[i-1].CreatedAt) || j.CreatedAt.Equal(got[i-1].CreatedAt) && j.ID > got[i-1].ID) {
			t.Fatalf("job %s is not older than %s", j.ID, got[i-1].ID)
		}
	}
	schedules, err := db.Schedules()
	must(t, err)
	if want := slices.SortedFunc(maps.Values(m.schedules), func(a, b state.Schedule) int { return strings.Compare(a.ID, b.ID) }); !reflect.DeepEqual(schedules, want) {
		t.Fatalf("schedules %+v, want %+v", schedules, want)
	}
	expiries, err := db.Expiries()
	must(t, err)
	if want := slices.SortedFunc(maps.Values(m.expiries), func(a, b state.Expiry) int { return strings.Compare(a.BackupID, b.BackupID) }); !reflect.DeepEqual(expiries, want) {
		t.Fatalf("expiries %+v, want %+v", expiries, want)
	}
	for id := range 60 {
		id := fmt.Sprint("id", id)
		a, err := db.Answer("p", id)
		if want, there := m.answers[id]; there != (err == nil) || there && !reflect.DeepEqual(a, want) {
			t.Fatalf("answer %s: %+v %v, want %+v", id, a, err, want)
		}
		v, err := db.Verification(id)
		if want, there := m.verified[id]; there != (err == nil) || there && !reflect.DeepEqual(v, want) {
			t.Fatalf("verification %s: %+v %v, want %+v", id, v, err, want)
		}
	}
	must(t, db.Check(t.Context()))
}

// judge has the wall's own reading of the pages agree that a file bbolt wrote is sound.
func judge(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	if err := state.Inspect(f, info.Size()); err != nil {
		t.Fatalf("a sound file is called damaged: %v", err)
	}
}

func TestInspect_TakesBucketsThatGrewAndWereEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := openAt(t, path)
	judge(t, path)
	for _, jobs := range []int{1, 2, 40, 250} {
		for i := range jobs {
			must(t, db.PutJob(state.Job{ID: fmt.Sprintf("j%d", i), CreatedAt: epoch, ErrorMessage: strings.Repeat("long", 1000)}))
			if i < 3 || i%50 == 0 {
				judge(t, path)
			}
		}
		for i := range jobs { // from the front: whole leaves go one after the other
			must(t, db.DeleteJob(fmt.Sprintf("j%d", i)))
			if i%20 == 0 || jobs-i < 5 {
				judge(t, path)
			}
		}
		must(t, db.Close())
		judge(t, path)
		db = openAt(t, path)
	}
	must(t, db.Close())
}

func TestState_FollowsAModelThroughARandomLife(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	path := filepath.Join(t.TempDir(), "state.db")
	db := openAt(t, path)
	m := newModel()
	stop := errors.New("stop")
	for round := range 300 {
		next := m.clone()
		undo := r.IntN(5) == 0
		err := db.Update(func(tx *state.Tx) error {
			for range 1 + r.IntN(40) {
				act(t, r, tx, next)
			}
			if undo {
				return stop
			}
			return nil
		})
		if undo != (err == stop) {
			t.Fatal(err)
		}
		if !undo {
			m = next
		}
		judge(t, path)
		if round%20 == 0 {
			must(t, db.Close())
			db = openAt(t, path)
			compare(t, db, m)
		}
	}
	compare(t, db, m)
}
