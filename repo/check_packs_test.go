package repo

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/store"
)

// gated lets a test stand in the way of who reads blocks of one pack.
type gated struct {
	store.Store
	pack string
	end  int64 // of the last block
	pass func()
}

type gatedObject struct {
	store.Object
	s *gated
}

func (s *gated) Open(ctx context.Context, name string) (store.Object, error) {
	o, err := s.Store.Open(ctx, name)
	if err == nil && name == s.pack {
		return &gatedObject{o, s}, nil
	}
	return o, err
}

func (o *gatedObject) ReadAt(p []byte, off int64) (int, error) {
	if off >= headerSize && off < o.s.end {
		o.s.pass()
	}
	return o.Object.ReadAt(p, off)
}

// onePack is a repository with a pack of some thirty blocks of data.
func onePack(t *testing.T) *gated {
	t.Helper()
	st := &gated{Store: store.NewMem()}
	initTestRepo(t, st.Store, DefaultPackSize)
	r := openTestRepo(t, st.Store, Options{})
	defer r.Close()
	v := version{}
	for i, c := range randomChunks(rand.New(rand.NewPCG(4, 4)), 70, 100_000, 110_000) {
		v[string(rune('A'+i))] = c
	}
	commit(t, r, v, nil)
	packs := r.catalog.all(kindData)
	if len(packs) != 1 {
		t.Fatalf("%d packs", len(packs))
	}
	e, err := r.reader.pack(t.Context(), packs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.reader.packs.release(e)
	tr := e.val.trailer
	if len(tr.blocks) < 3*blocksAtOnce {
		t.Fatalf("%d blocks", len(tr.blocks))
	}
	st.pack, st.end = packName(tr.header.pack, kindData), int64(tr.blocks[len(tr.blocks)-1].offset)
	return st
}

// However few packs there are, all workers have something to do.
func TestCheck_SharesOutTheBlocksOfOnePack(t *testing.T) {
	meet := func(workers int, patience time.Duration) bool {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
		st := onePack(t)
		var mu sync.Mutex
		var inside, reads int
		met, once := make(chan struct{}), sync.Once{}
		st.pass = func() {
			mu.Lock()
			inside++
			reads++
			two := inside == 2
			mu.Unlock()
			if two {
				once.Do(func() { close(met) })
			}
			select {
			case <-met:
			case <-time.After(patience):
				patience = 0
			}
			mu.Lock()
			inside--
			mu.Unlock()
		}
		r := openTestRepo(t, st, Options{})
		defer r.Close()
		rep := checked(t, r, CheckOptions{ReadData: true})
		if !rep.Sound() || rep.Packs != 2 || rep.Chunks < 70 || int(rep.Blocks) < reads || reads < 3*blocksAtOnce {
			t.Fatalf("%+v after %d reads", rep, reads)
		}
		select {
		case <-met:
			return true
		default:
			return false
		}
	}
	if !meet(2, 3*time.Minute) {
		t.Error("two workers never read blocks of the same pack at once")
	}
	// The control: who is alone meets nobody.
	if meet(1, 50*time.Millisecond) {
		t.Error("one worker was at two blocks at once")
	}
}

// Damage that shows when the trees have been walked is named all the same.
func TestCheck_NamesFilesOfDamageThatShowsLate(t *testing.T) {
	st := onePack(t)
	overwrite(t, st.Store, st.pack, func(b []byte) []byte { b[st.end-10] ^= 1; return b })
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	var p CheckProgress
	late := true
	var once sync.Once
	st.pass = func() {
		once.Do(func() {
			for end := time.Now().Add(3 * time.Minute); p.Snapshots.Load() == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					late = false
					return
				}
			}
		})
	}
	rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, &p)
	if err != nil {
		t.Fatal(err)
	}
	if !late {
		t.Fatal("no tree was walked while blocks were read, so the test shows nothing")
	}
	if len(rep.Findings) != 1 || len(rep.DamagedFiles) == 0 || rep.Snapshots != 1 || p.Snapshots.Load() != 1 {
		t.Errorf("%d snapshots, findings %v, files %v", rep.Snapshots, rep.Findings, rep.DamagedFiles)
	}
}
