package backup

import (
	"sort"

	"github.com/generalbots/backupd/repo"
)

// skipBits, in base 2, and skipDigits say how versions of a large file lean on earlier ones: numbered in base 2^skipBits, a
// version leans on the one with the lowest digit that is not zero cleared, as Subversion's skip-deltas do in base 2. Where
// all skipDigits are zero it leans on none. So a version lies as deep as it has such digits, which bounds what a restore
// decodes, whichever version it is of and however many there are.
//
// Over 32 daily versions of a dump with 1 % of its rows rewritten a day, deltas in base 2 without a bound took 78 MB and the
// last was restored in 6.2 times the time of the first; docs/adr/0015 has what else was tried.
const (
	skipBits   = 2
	skipDigits = 3
	// thinDepth is the depth of deltas where versions in between were forgotten, so that the digits say nothing.
	thinDepth = 8
)

// versions are those of a part that the large files in it are compared with, to be written as deltas.
type versions struct {
	roots []*repo.Entry // the one to try first ahead
	below uint8         // only chunks that lie less deep than this are leant on
}

// skips returns the numbers of the versions that version n leans on, one through the other.
func skips(n uint64) []uint64 {
	var wanted []uint64
	for shift := 0; shift < skipBits*skipDigits; shift += skipBits {
		if digit := n >> shift & (1<<skipBits - 1); digit != 0 {
			n -= digit << shift
			wanted = append(wanted, n)
		}
	}
	return wanted
}

// findVersions finds the versions of a part that a run on the base b leans on, of those that are left: where one is gone,
// the nearest after it.
func findVersions(r *repo.Repo, older []*repo.Snapshot, b *base, p *repo.Part, host string) versions {
	wanted := skips(b.part.Generation + 1)
	v := versions{below: uint8(len(wanted))}
	left := []*repo.Part{b.part} // of the lineage, newest first
	for i := len(older) - 1; i >= 0 && len(wanted) > 0; i-- {
		if older[i].Host != host {
			continue
		}
		if q := samePart(older[i], p); q != nil && q.Generation < left[len(left)-1].Generation {
			left = append(left, q)
		}
	}
	for i, w := range wanted {
		n := sort.Search(len(left), func(i int) bool { return left[i].Generation < w })
		if n == 0 {
			continue
		}
		q := left[n-1]
		root := b.root
		if q != b.part {
			var err error
			if root, err = r.Root(q); err != nil {
				continue
			}
		}
		v.roots, left = append(v.roots, root), left[n:]
		if i == 0 && q.Generation != w {
			v.below = thinDepth
		}
	}
	return v
}
