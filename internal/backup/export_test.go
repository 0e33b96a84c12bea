package backup

import (
	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
)

// What the tests of the parts need to see.
const (
	LargeFile  = largeFile
	Margin     = margin
	NearEnough = nearEnough
	MaxSkip    = maxSkip
)

// Reference is a base version's chunk list.
type Reference = reference

// ReferenceOf makes one of a list.
func ReferenceOf(refs []repo.Ref) *Reference {
	g := &reference{refs: refs, byID: make(map[crypto.ID]int)}
	var off int64
	for i, r := range refs {
		g.offs = append(g.offs, off)
		off += int64(r.Len)
		at := i
		if _, twice := g.byID[r.ID]; twice {
			at = several
		}
		g.byID[r.ID] = at
	}
	g.offs = append(g.offs, off)
	return g
}

// Like is what the new chunk r at off is compared with.
func (g *Reference) Like(off int64, r repo.Ref) []repo.Ref { return g.like(off, r) }

// Drift is old offset minus new offset as far as is known.
func (g *Reference) Drift() int64 { return g.drift }

// DeltaGeneration returns the generation of the version that deltas of a run
// on the base are made against. Roots tell their generation by their uid.
func DeltaGeneration(older []*repo.Snapshot, of *repo.Snapshot, part *repo.Part, host string) uint32 {
	var r *repo.Repo
	root, err := r.Root(&of.Parts[0])
	if err != nil {
		panic(err)
	}
	return deltaRoot(r, older, &base{part: &of.Parts[0], root: root}, part, host).UID
}
