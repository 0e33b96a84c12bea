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
	ThinDepth  = thinDepth
)

// Reference is a base version's chunk list.
type Reference = reference

// ReferenceOf makes one of a list.
func ReferenceOf(refs []repo.Ref) *Reference { return WindowOf(refs, len(refs)+1) }

// WindowOf makes one that has so many chunks of a list in memory.
func WindowOf(refs []repo.Ref, window int) *Reference {
	g := &reference{below: 1, depthOf: func(crypto.ID) uint8 { return 0 }, offs: []int64{0}}
	g.next = func() (r repo.Ref, ok bool) {
		if len(refs) == 0 {
			return r, false
		}
		r, refs = refs[0], refs[1:]
		return r, true
	}
	g.load(window)
	return g
}

// Following is what goes along the base of a large file.
type Following = following

// Follow goes along a list.
func Follow(ids repo.Identifier, most int, refs []repo.Ref) *Following {
	return newFollowing(ids, most, func() (r repo.Ref, ok bool) {
		if len(refs) == 0 {
			return r, false
		}
		r, refs = refs[0], refs[1:]
		return r, true
	})
}

// At tells whether the chunk of the base stands at off.
func (f *Following) At(off int64, data []byte, eof bool) (ref repo.Ref, same, more bool) {
	return f.at(off, data, eof)
}

// Cut tells where the chunk that At looked at ends.
func (f *Following) Cut(ref repo.Ref, n int) repo.Ref { return f.cut(ref, n) }

// Held is how many chunks are in memory.
func (g *Reference) Held() int { return len(g.refs) }

// Like is what the new chunk r at off is compared with.
func (g *Reference) Like(off int64, r repo.Ref) []repo.Ref {
	return (&references{versions: []*reference{g}}).like(off, r)
}

// Drift is old offset minus new offset as far as is known.
func (g *Reference) Drift() int64 { return g.drift }

// Versions returns the generations of the versions that deltas of a run on the
// base are made against, and the depth they stay below. Roots tell their
// generation by their uid.
func Versions(older []*repo.Snapshot, of *repo.Snapshot, part *repo.Part, host string) (generations []uint32, below uint8) {
	var r *repo.Repo
	root, err := r.Root(&of.Parts[0])
	if err != nil {
		panic(err)
	}
	v := findVersions(r, older, &base{part: &of.Parts[0], root: root}, part, host)
	for _, root := range v.roots {
		generations = append(generations, root.UID)
	}
	return generations, v.below
}
