package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/state"
)

// sound makes a state file with a tree of several levels and a freelist, and returns its bytes.
func sound(t testing.TB, clean bool) (content []byte, jobs int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := state.Open(path, repository)
	must(t, err)
	db.Follow(func() state.Anchor { return lastRecord })
	jobs = 400
	for at := 0; at < jobs; at += 100 {
		must(t, db.Update(func(tx *state.Tx) error {
			for i := at; i < at+100; i++ {
				j := state.Job{ID: fmt.Sprintf("j%04d", i), CreatedAt: epoch.Add(time.Duration(i)), ErrorMessage: strings.Repeat("x", i)}
				if i == 7 {
					j.ErrorMessage = strings.Repeat("long", 4000)
				}
				if err := tx.PutJob(j); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	must(t, db.PutSchedule(state.Schedule{ID: "s", Cron: "@daily"}))
	for range 2 { // a damaged meta page takes the last transaction with it, like one torn by a crash
		must(t, db.PutExpiry(state.Expiry{BackupID: "b", ExpiresAt: epoch}))
	}
	if !clean {
		content, err = os.ReadFile(path) // as kill -9 leaves it
		must(t, err)
	}
	must(t, db.Close())
	if clean {
		content, err = os.ReadFile(path)
		must(t, err)
	}
	return content, jobs
}

// lastRecord is where the log ends that the file follows.
var lastRecord = state.Anchor{Records: 7, MAC: strings.Repeat("ab", 32)}

// live does everything a daemon would with a file that may be damaged. Every
// outcome is right but a crash, a hang, or records that are not what was written.
func live(t *testing.T, content []byte, jobs int) (opened bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, os.WriteFile(path, content, 0o600))
	db, err := state.Open(path, repository)
	if err != nil {
		var newer *state.NewerError
		var other *state.OtherRepositoryError
		if !errors.Is(err, state.ErrDamaged) && !errors.As(err, &newer) && !errors.As(err, &other) {
			t.Errorf("open: %v", err)
		}
		return false
	}
	defer db.Close()
	got, total, err := db.Jobs(func(*state.Job) bool { return true }, 0, 0)
	if err == nil {
		if total != jobs {
			t.Errorf("%d jobs of %d and no error", total, jobs)
		}
		for _, j := range got {
			var i int
			fmt.Sscanf(j.ID, "j%d", &i)
			if i != 7 && j.ErrorMessage != strings.Repeat("x", i) {
				t.Errorf("job %s came back changed", j.ID)
			}
		}
	} else if !errors.Is(err, state.ErrDamaged) {
		t.Errorf("jobs: %v", err)
	}
	if all, err := db.Schedules(); err == nil && (len(all) != 1 || all[0].ID != "s" || all[0].Cron != "@daily") || err != nil && !errors.Is(err, state.ErrDamaged) {
		t.Errorf("schedules: %+v, %v", all, err)
	}
	if all, err := db.Expiries(); err == nil && (len(all) != 1 || all[0].BackupID != "b" || !all[0].ExpiresAt.Equal(epoch)) || err != nil && !errors.Is(err, state.ErrDamaged) {
		t.Errorf("expiries: %+v, %v", all, err)
	}
	if a, err := db.Anchor(); err == nil && a != lastRecord || err != nil && !errors.Is(err, state.ErrDamaged) {
		t.Errorf("anchor: %+v, %v", a, err)
	}
	for i := range 3 {
		if err := db.PutJob(state.Job{ID: fmt.Sprintf("j%04d", i*130), CreatedAt: epoch}); err != nil {
			if !errors.Is(err, state.ErrDamaged) {
				t.Errorf("put: %v", err)
			}
			break
		}
	}
	return true
}

// used is the length of what bbolt wrote; the rest of the file is a hole.
func used(content []byte) int { return len(bytes.TrimRight(content, "\x00")) }

func TestOpen_MeetsAnyFlippedBitWithAnError(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for _, clean := range []bool{true, false} {
		content, jobs := sound(t, clean)
		if !live(t, content, jobs) {
			t.Fatal("the sound file is refused")
		}
		rounds := 120
		if testing.Short() {
			rounds = 50
		}
		refused := 0
		for range rounds {
			bad := bytes.Clone(content)
			page := r.IntN(used(content)/4096+1) * 4096
			at := page + r.IntN(4096)
			if r.IntN(2) == 0 {
				at = page + r.IntN(64) // headers and elements
			}
			bad[at] ^= 1 << r.IntN(8)
			if !live(t, bad, jobs) {
				refused++
			}
			if t.Failed() {
				t.Fatalf("byte %d flipped", at)
			}
		}
		if refused == 0 {
			t.Error("no flipped bit was ever noticed at open")
		}
	}
}

// inUse lists the pages of a sound file that its freelist does not name.
func inUse(content []byte) (pages []int) {
	order := binary.NativeEndian
	newest := 16 // of the two metas
	if order.Uint64(content[4096+16+48:]) > order.Uint64(content[16+48:]) {
		newest += 4096
	}
	free := make(map[int]bool)
	list := content[int(order.Uint64(content[newest+32:]))*4096:]
	for i := range int(order.Uint16(list[10:])) {
		free[int(order.Uint64(list[16+8*i:]))] = true
	}
	for page := 2; page < int(order.Uint64(content[newest+40:])); page++ {
		if !free[page] {
			pages = append(pages, page)
		}
		page += int(order.Uint32(content[page*4096+12:])) // which have no header of their own
	}
	return pages
}

// Headers and elements of pages say where records are, as do the buckets in the
// root. No flip of a bit in one can make a record disappear, whichever it is.
func TestInspect_MeetsEveryFlippedBitOfWhatLeadsToRecords(t *testing.T) {
	content, jobs := sound(t, true) // closed, so that opening does not check all records
	content = content[:(used(content)/4096+2)*4096]
	whole := bytes.NewReader(content)
	must(t, state.Inspect(whole, whole.Size()))
	kinds, unseen := make(map[string]int), 0
	for _, page := range inUse(content) {
		p := content[page*4096:][:4096]
		kind, size, count := "leaf", 16, int(binary.NativeEndian.Uint16(p[10:]))
		switch flags := binary.NativeEndian.Uint16(p[8:]); {
		case flags == 0x10:
			kind, size = "freelist", 8
		case flags == 0x01:
			kind = "branch"
		case count > 0 && p[16] == 0x01:
			kind = "root"
		}
		kinds[kind]++
		if kind == "leaf" && kinds[kind]%30 != 1 {
			continue // they are alike
		}
		try := func(from, to int) {
			for at := from; at < to; at++ {
				for bit := range 8 {
					p[at] ^= 1 << bit
					if state.Inspect(whole, whole.Size()) == nil {
						unseen++
						if kind == "root" && bit != at%8 {
							p[at] ^= 1 << bit
							continue // most of it are records; opening takes its time
						}
						if live(t, content, jobs); t.Failed() {
							t.Fatalf("bit %d of byte %d of page %d, a %s with %d entries", bit, at, page, kind, count)
						}
					}
					p[at] ^= 1 << bit
				}
			}
		}
		if kind == "root" {
			try(0, used(p))
			continue
		}
		try(0, 16+min(count, 2)*size)
		try(16+max(count-1, 2)*size, 16+max(count, 2)*size)
	}
	t.Logf("pages: %v; %d flips left to the checksums of records", kinds, unseen)
	if kinds["leaf"] < 10 || kinds["branch"] < 2 || kinds["freelist"] != 1 || kinds["root"] != 1 {
		t.Error("the file has not all types of pages")
	}
}

func TestOpen_MeetsTornAndMixedPagesWithAnError(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	content, jobs := sound(t, false)
	pages := used(content)/4096 + 1
	for i := range 150 {
		bad := bytes.Clone(content)
		a, b := r.IntN(pages)*4096, r.IntN(pages)*4096
		switch i % 4 {
		case 0:
			copy(bad[a:a+4096], content[b:b+4096])
		case 1:
			clear(bad[a : a+4096])
		case 2: // a page that names another as its child or root, or itself: loops
			binary.NativeEndian.PutUint64(bad[a+16+8:], uint64(b/4096))
		case 3: // the same number, somewhere among the elements
			binary.NativeEndian.PutUint64(bad[a+16+16*r.IntN(20)+8:], uint64(a/4096))
		}
		live(t, bad, jobs)
		if t.Failed() {
			t.Fatalf("kind %d, pages %d and %d", i%4, a/4096, b/4096)
		}
	}
	for range 40 {
		n := firstMeta + r.IntN(used(content)-firstMeta)
		if live(t, content[:n], jobs) || t.Failed() {
			t.Fatalf("cut to %d bytes, and opened", n)
		}
	}
	// One without a whole meta page was never written to, as far as anybody can tell: nothing was promised.
	for n := 0; n < firstMeta; n += 13 {
		path := filepath.Join(t.TempDir(), "state.db")
		must(t, os.WriteFile(path, content[:n], 0o600))
		db, err := state.Open(path, repository)
		must(t, err)
		if _, total, err := db.Jobs(nil, 0, 0); total != 0 || err != nil {
			t.Errorf("cut to %d bytes: %d jobs, %v", n, total, err)
		}
		must(t, db.Close())
	}
}

// firstMeta is where the first meta page of a file ends.
const firstMeta = 16 + 64

// A disk that loses a page while the file is mapped raises a signal that ends the process, unless it is turned into an error.
func TestDB_SurvivesPagesThatCanNoLongerBeRead(t *testing.T) {
	content, _ := sound(t, true)
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, os.WriteFile(path, content, 0o600))
	db, err := state.Open(path, repository)
	must(t, err)
	must(t, os.Truncate(path, 3*4096))
	_, _, err = db.Jobs(func(*state.Job) bool { return true }, 0, 0)
	wantErr(t, "reading", err, state.ErrDamaged)
	wantErr(t, "writing", db.PutJob(state.Job{ID: "a", CreatedAt: epoch}), state.ErrDamaged)
	if err := db.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	_, err = state.Open(path, repository)
	if !errors.Is(err, state.ErrDamaged) && !errors.Is(err, state.ErrInUse) {
		t.Errorf("opened again: %v", err)
	}
}

func TestDB_SurvivesAFaultWhileItWrites(t *testing.T) {
	content, _ := sound(t, true)
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, os.WriteFile(path, content, 0o600))
	db, err := state.Open(path, repository)
	must(t, err)
	must(t, os.Truncate(path, 3*4096))
	wantErr(t, "writing", db.PutJob(state.Job{ID: "a", CreatedAt: epoch}), state.ErrDamaged)
	wantErr(t, "writing again", db.PutJob(state.Job{ID: "b", CreatedAt: epoch}), state.ErrDamaged)
	_, err = db.Job("a")
	wantErr(t, "reading", err, state.ErrDamaged)
	done := make(chan struct{})
	go func() { db.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("Close hangs")
	}
}

// The control of the tests above: bbolt alone does not get through what the wall keeps from it.
func TestOpen_ControlBboltAloneDiesOfDamage(t *testing.T) {
	content, _ := sound(t, true)
	pages := used(content)/4096 + 1
	died := 0
	for page := 2; page < pages && died == 0; page++ {
		bad := bytes.Clone(content)
		for e := range 8 { // what stands where a branch has its children leads far outside the file
			binary.NativeEndian.PutUint64(bad[page*4096+16+16*e+8:], 1<<30)
		}
		path := filepath.Join(t.TempDir(), "state.db")
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := state.Open(path, repository); err == nil {
			continue
		}
		if out, err := child(t, "unjudged", path).CombinedOutput(); err != nil {
			died++
			t.Logf("page %d: %v: %.200s", page, err, out)
		}
	}
	if died == 0 {
		t.Error("bbolt met every damage without help: the wall is not needed, or this test does not reach it")
	}
}

func FuzzInspect(f *testing.F) {
	content, _ := sound(f, true)
	content = content[:(used(content)/4096+1)*4096]
	f.Add(uint16(3), uint16(10), uint64(0x40), uint16(0), uint16(0), uint64(0))
	f.Fuzz(func(t *testing.T, page1, at1 uint16, flip1 uint64, page2, at2 uint16, flip2 uint64) {
		bad := bytes.Clone(content)
		for _, c := range []struct {
			page, at uint16
			flip     uint64
		}{{page1, at1, flip1}, {page2, at2, flip2}} {
			at := bad[int(c.page)%(len(bad)/4096)*4096+int(c.at)%4089:]
			binary.NativeEndian.PutUint64(at, binary.NativeEndian.Uint64(at)^c.flip)
		}
		state.Inspect(bytes.NewReader(bad), int64(len(bad)))
	})
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"id":"a","created_at":"2026-01-02T03:04:05Z","request":{"x":[1]}}`))
	f.Add([]byte(`{"id":"a"}{}`))
	f.Add([]byte(`{"id":"a","unknown":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		key := []byte("a")
		j, err := state.DecodeJob(key, state.SealJob(1, key, text))
		if err != nil {
			return
		}
		if state.CheckJob(j) != nil {
			return
		}
		value, err := state.EncodeJob(key, j)
		must(t, err)
		again, err := state.DecodeJob(key, value)
		must(t, err)
		twice, err := state.EncodeJob(key, again)
		must(t, err)
		if !bytes.Equal(value, twice) {
			t.Errorf("%q became %q", value, twice)
		}
	})
}

func FuzzSummary(f *testing.F) {
	j := state.Job{ID: "a", Kind: "backup", State: "pending", CreatedAt: epoch, FinishedAt: epoch, Attempts: 3}
	entry, value := state.Summary(&j)
	f.Add(entry, value[4:])
	f.Fuzz(func(t *testing.T, entry, value []byte) {
		var j, again state.Job
		if state.ReadSummary(entry, state.SealSummary(entry, value), &j) != nil || state.CheckJob(&j) != nil {
			return
		}
		must(t, func() error { e, v := state.Summary(&j); return state.ReadSummary(e, v, &again) }())
		if !reflect.DeepEqual(j, again) {
			t.Errorf("%+v became %+v", j, again)
		}
	})
}

func TestJobs_FilterSeesWhatTheJobSays(t *testing.T) {
	db, _ := fresh(t)
	want := state.Job{ID: "restore-1", Kind: "restore", State: "failed", BackupID: "backup-1", Target: "staging", ScheduleID: "s", Actor: "me",
		ErrorCode: "no_space", Attempts: 2, CreatedAt: epoch, StartedAt: epoch.Add(1), FinishedAt: epoch.Add(2)}
	full := want
	full.ErrorMessage, full.Request, full.RequestID = "no space", []byte("{}"), "r"
	must(t, db.PutJob(state.Job{ID: "restore-1", CreatedAt: epoch}))
	must(t, db.PutJob(full))
	got, total, err := db.Jobs(func(j *state.Job) bool {
		if !reflect.DeepEqual(*j, want) {
			t.Errorf("the filter sees %+v", *j)
		}
		return true
	}, 0, 0)
	if err != nil || total != 1 || !reflect.DeepEqual(got[0], full) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestRecord_SaysWhatIsWrongWithIt(t *testing.T) {
	key := []byte("a")
	good := []byte(`{"id":"a","created_at":"2026-01-02T03:04:05Z"}`)
	if _, err := state.DecodeJob(key, state.SealJob(1, key, good)); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"empty":         {},
		"short":         {1, 2, 3},
		"version 0":     state.SealJob(0, key, good),
		"other key":     state.SealJob(1, []byte("b"), good),
		"unknown field": state.SealJob(1, key, []byte(`{"id":"a","colour":1}`)),
		"two records":   state.SealJob(1, key, append(bytes.Clone(good), good...)),
		"wrong type":    state.SealJob(1, key, []byte(`{"id":1}`)),
		"no object":     state.SealJob(1, key, []byte(`[]`)),
	} {
		if _, err := state.DecodeJob(key, value); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	var newer *state.NewerError
	if _, err := state.DecodeJob(key, state.SealJob(2, key, []byte(`{"id":"a","colour":1}`))); !errors.As(err, &newer) || newer.Have != 2 {
		t.Errorf("version 2: %v", err)
	}
}
