package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// beside is one of several programs on one repository. It forgets only what it
// has made itself, so it knows of each of its snapshots whether it must be there.
type beside struct {
	t     *testing.T
	dir   string
	state string
	rng   *rand.Rand
	live  map[string]version
	gone  map[string]version // forgotten; gc may have removed it
	files version
	done  map[string]int
}

// patience is how often a program tries that finds the repository held.
const patience = 2000

// with opens the repository, again and again while another has it to itself.
func (b *beside) with(ctx context.Context, do func(r *Repo) error) error {
	for try := 1; ; try++ {
		st, err := store.OpenDir(b.dir)
		if err != nil {
			return err
		}
		r, err := Open(ctx, st, []crypto.Credential{testKey}, Options{StateDir: b.state})
		if err == nil {
			err = errors.Join(do(r), r.Close())
		}
		st.Close()
		var held *store.LockedError
		if !errors.As(err, &held) || try == patience {
			return err
		}
		b.done["held"]++
		time.Sleep(time.Duration(b.rng.IntN(20)) * time.Millisecond)
	}
}

func (b *beside) one(m map[string]version) string {
	for id := range m {
		return id
	}
	return ""
}

func (b *beside) step(ctx context.Context) error {
	switch op := b.rng.IntN(12); {
	case op < 4:
		b.done["backup"]++
		v := maps.Clone(b.files)
		v[fmt.Sprintf("new%d", b.rng.IntN(5))] = textRows(b.rng, 1+b.rng.IntN(300))
		v = mutate(b.rng, v)
		return b.with(ctx, func(r *Repo) error {
			var base *Snapshot
			if all := r.Snapshots(); len(all) > 0 {
				base = all[len(all)-1] // anybody's
			}
			s, err := commitFiles(ctx, r, v, base)
			if errors.Is(err, ErrNotFound) && base != nil {
				if _, e := r.Resolve(base.ID); e != nil {
					return nil // the base went, and with it the pages this test reads
				}
			}
			if err != nil {
				return err
			}
			b.live[s.ID], b.files = v, v
			return nil
		})
	case op < 6 && len(b.live) > 1:
		b.done["forget"]++
		id := b.one(b.live)
		if err := b.with(ctx, func(r *Repo) error { return r.Forget(ctx, id) }); err != nil {
			return err
		}
		b.gone[id] = b.live[id]
		delete(b.live, id)
	case op < 7 && len(b.gone) > 0:
		b.done["undelete"]++
		id := b.one(b.gone)
		err := b.with(ctx, func(r *Repo) error { return r.Undelete(ctx, id) })
		if err == nil {
			b.live[id] = b.gone[id]
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		delete(b.gone, id)
	case op < 9:
		b.done["gc"]++
		return b.with(ctx, func(r *Repo) error {
			_, err := r.GC(ctx, GCOptions{}, &GCProgress{})
			var held *store.LockedError
			if errors.As(err, &held) {
				return nil // others read; it would wait for long
			}
			b.done["gc alone"]++
			return err
		})
	case op < 10:
		b.done["check"]++
		return b.with(ctx, func(r *Repo) error {
			rep, err := r.Check(ctx, CheckOptions{ReadData: b.rng.IntN(2) == 0}, &CheckProgress{})
			if err == nil && !rep.Sound() {
				err = fmt.Errorf("check: %+v", rep)
			}
			return err
		})
	default:
		b.done["read"]++
		return b.with(ctx, b.compare)
	}
	return nil
}

func (b *beside) compare(r *Repo) error {
	for id, v := range b.live {
		s, err := r.Resolve(id)
		if err != nil {
			return err
		}
		got, err := readFiles(b.t.Context(), r, s)
		if err != nil || !sameFiles(got, v) {
			return fmt.Errorf("snapshot %s is not what it was: %v", id, err)
		}
	}
	return nil
}

// Backups, forgetting, gc, checks and readers beside each other, pairs of them
// with one state directory.
func TestRepo_ProgramsBesideEachOtherLoseNothing(t *testing.T) {
	steps := 8
	if n, err := strconv.Atoi(os.Getenv("BACKUPD_BESIDE_STEPS")); err == nil {
		steps = n
	}
	dir := t.TempDir() + "/repo"
	st, err := store.MakeDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	initTestRepo(t, st, MinPackSize)
	states := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	programs := make([]*beside, 2*len(states))
	var wg sync.WaitGroup
	for i := range programs {
		b := &beside{
			t: t, dir: dir, state: states[i/2] + "/state", rng: rand.New(rand.NewPCG(uint64(i), 77)),
			live: map[string]version{}, gone: map[string]version{}, done: map[string]int{},
		}
		b.files = version{"dump": textRows(b.rng, 500), "small": []byte("x")}
		programs[i] = b
		wg.Go(func() {
			for range steps {
				if err := b.step(t.Context()); err != nil {
					t.Errorf("program %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	total := map[string]int{}
	r := openTestRepo(t, st, Options{})
	for _, b := range programs {
		if err := b.compare(r); err != nil {
			t.Error(err)
		}
		for what, n := range b.done {
			total[what] += n
		}
	}
	mustBeSound(t, r)
	r.Close()
	st.Close()
	t.Log(total)
}
