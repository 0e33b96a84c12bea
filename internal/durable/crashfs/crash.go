package crashfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash returns the tree that is found after a power cut at this moment: what
// was synced and a random part of the rest, as the package comment says, with
// percent from 0 to 100. Everything in it is durable, nothing is locked and its
// operations count from 0. The same rng state gives the same tree.
//
// The tree itself is not touched, so that many crashes can be had from one
// moment; to end the programs that use it call Stop or CrashAt before.
func (f *FS) Crash(rng *rand.Rand, percent int) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	happened := make([]bool, len(f.pending))
	for k := range f.pending {
		happened[k] = rng.IntN(100) < percent
	}
	f.dependencies(happened)
	names := f.disk.clone()
	for k, c := range f.pending {
		if happened[k] {
			c.into(names)
		}
	}
	names.prune()
	next := f.successor()
	next.disk = names.replace(func(old *inode) *inode {
		data := old.crash(rng, percent)
		return &inode{id: old.id, data: data, synced: data, shared: true}
	})
	next.live = next.disk.clone()
	return next
}

// Restart returns the tree as the next process finds it when this one is killed
// but the machine runs on: everything is seen, what was not synced is still not
// durable, and locks are free. The old tree stops.
func (f *FS) Restart() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	next := f.successor()
	made := map[*inode]*inode{}
	renew := func(old *inode) *inode {
		if old == nil || old.dir {
			return old
		}
		if made[old] == nil {
			made[old] = &inode{
				id: old.id, data: bytes.Clone(old.data),
				synced: old.synced, log: slices.Clip(old.log), lateN: old.lateN,
			}
		}
		return made[old]
	}
	next.live = f.live.replace(renew)
	next.disk = f.disk.replace(renew)
	for _, c := range f.pending {
		again := *c
		again.ino = renew(c.ino)
		next.pending = append(next.pending, &again)
	}
	return next
}

func (f *FS) successor() *FS {
	next := New()
	next.nextID, next.lies, next.capacity = f.nextID, f.lies, f.capacity
	return next
}

// replace returns the tree with the inode of each file replaced, every one once,
// in the order they were made. Those of directories never change and are shared.
func (t tree) replace(renew func(*inode) *inode) tree {
	c := t.clone()
	made := map[*inode]*inode{}
	for _, entries := range c {
		for _, ino := range entries {
			if !ino.dir {
				made[ino] = nil
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(made), func(a, b *inode) int { return a.id - b.id })
	for _, ino := range order {
		made[ino] = renew(ino)
	}
	for _, entries := range c {
		for name, ino := range entries {
			if !ino.dir {
				entries[name] = made[ino]
			}
		}
	}
	return c
}
