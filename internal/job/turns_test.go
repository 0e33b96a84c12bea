package job_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/internal/job"
)

const (
	bk = job.KindBackup
	rs = job.KindRestore
	vf = job.KindVerify
	gc = job.KindGC
)

func TestTurns_Table(t *testing.T) {
	for _, c := range []struct {
		name           string
		running, queue []job.Kind
		want           []job.Kind // that begin, in order
	}{
		{"one backup at a time", nil, []job.Kind{bk, bk}, []job.Kind{bk}},
		{"restores beside it, and one verification", []job.Kind{bk}, []job.Kind{vf, vf, rs, rs, rs}, []job.Kind{vf, rs, rs}},
		{"gc waits for a writer", []job.Kind{bk}, []job.Kind{gc}, nil},
		{"gc waits for a verification", []job.Kind{vf}, []job.Kind{gc}, nil},
		{"gc waits for a restore", []job.Kind{rs}, []job.Kind{gc}, nil},
		{"nothing beside gc", []job.Kind{gc}, []job.Kind{bk, vf, rs, gc}, nil},
		{"gc holds back what came later and writes", []job.Kind{bk}, []job.Kind{gc, bk, vf}, nil},
		{"but never a restore", []job.Kind{bk}, []job.Kind{gc, bk, rs}, []job.Kind{rs}},
		{"but not what came before", []job.Kind{vf}, []job.Kind{bk, gc}, []job.Kind{bk}},
		{"nor anybody while it waits for a restore", []job.Kind{rs}, []job.Kind{gc, bk, vf}, []job.Kind{bk, vf}},
		{"gc goes first when it may", nil, []job.Kind{gc, bk, rs}, []job.Kind{gc}},
	} {
		var s job.Slots
		for _, k := range c.running {
			s.Take([]job.Kind{k}, 9)
		}
		var got []job.Kind
		queue := slices.Clone(c.queue)
		for {
			at := s.Take(queue, 2)
			if at < 0 {
				break
			}
			got = append(got, queue[at])
			queue = slices.Delete(queue, at, at+1)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// Whatever comes and goes: never two writers, nothing beside gc, and everything
// has its turn, gc too although backups come for ever.
func TestTurns_ExcludeAndEnd(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 9))
		var s job.Slots
		type waiting struct {
			kind job.Kind
			age  int
		}
		var queue []waiting
		var running []job.Kind
		guests := 0
		for step := range 3000 {
			if len(queue) < 30 {
				queue = append(queue, waiting{kind: []job.Kind{bk, bk, bk, gc, vf, rs}[rng.IntN(6)]})
			}
			if rng.IntN(4) == 0 && guests == 0 {
				if _, alone, _, _, _ := s.Busy(); !alone {
					s.Guest(1)
					guests++
				}
			} else if guests > 0 {
				s.Guest(-1)
				guests--
			}
			kinds := make([]job.Kind, len(queue))
			for i := range queue {
				kinds[i] = queue[i].kind
			}
			if at := s.Take(kinds, 2); at >= 0 {
				running = append(running, queue[at].kind)
				queue = slices.Delete(queue, at, at+1)
			}
			n := make(map[job.Kind]int)
			for _, k := range running {
				n[k]++
			}
			if n[bk] > 1 || n[vf] > 1 || n[rs] > 2 || n[gc] > 0 && len(running)+guests > 1 {
				t.Fatalf("seed %d step %d: %v run together with %d guests", seed, step, running, guests)
			}
			if len(running) > 0 && rng.IntN(2) == 0 {
				i := rng.IntN(len(running))
				s.Release(running[i])
				running = slices.Delete(running, i, i+1)
			}
			for i := range queue {
				if queue[i].age++; queue[i].age > 2500 {
					t.Fatalf("seed %d: a %s has waited for %d steps behind %v", seed, queue[i].kind, queue[i].age, running)
				}
			}
		}
	}
}
