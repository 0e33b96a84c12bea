package backup

import (
	"context"
	"sort"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/repo"
)

// reference is the base version of a file, as the chunk list it has there. It
// answers, for a new chunk, which old chunks stood where the new one stands:
// those make its dictionary.
//
// The place is the same offset, shifted by the drift. An unchanged chunk shows
// the drift exactly. Between unchanged chunks it is followed by chunk lengths:
// a small edit leaves the boundaries around it, so a new chunk whose ends lie
// near those of an old one, and whose length is nearly the same, is that chunk
// edited. Lengths are as good as random, so a false match is rare and costs
// one poor dictionary. Where something was inserted and no unchanged chunk shows
// how much, the lengths of three chunks in a row do.
type reference struct {
	refs  []repo.Ref
	offs  []int64           // of each chunk, and the end
	byID  map[crypto.ID]int // where it first stands; several for one that stands more than once
	drift int64             // old offset minus new offset
	buf   []repo.Ref

	last  [2]int64        // lengths of the two new chunks before
	byLen map[int64][]int // chunks by length, in steps of lengthStep; made when the place is lost
}

const (
	// maxReference bounds the chunks of a base version that are looked at;
	// beyond it a file is cut and stored as if it had none.
	maxReference = 1 << 17
	// margin is how much more of the old version is taken on either side.
	margin = 16 << 10
	// nearEnough is how far from the expected place an edited chunk may
	// begin, sameLength how much its length may differ.
	nearEnough = 48 << 10
	sameLength = 1 << 10
	// lengthStep is how much the lengths of three edited chunks in a row may
	// differ to find the place again once it is lost. Three at random agree
	// about once in 10^8.
	lengthStep = 128
	// maxCrowd bounds how many chunks of about one length are looked at.
	maxCrowd = 1 << 10
)

// skipDeltas is the size from which a file is looked up in base.deltas. The
// smaller ones take their base: for them a version stored plain now and then
// costs less than the look-ups.
const skipDeltas = 1 << 20

// reference returns the version an item's new chunks are compared with; nil
// when there is none.
func (x *run) reference(it *item) *reference {
	if !it.hasBase {
		return nil
	}
	if it.entry.Size >= skipDeltas && x.base.deltas != x.base.root {
		if raw, ok := find(x.ctx, x.repo, x.base.deltas, it.path()); ok {
			if g := newReference(x.ctx, x.repo, &raw); g != nil {
				return g
			}
		}
	}
	return newReference(x.ctx, x.repo, &it.base)
}

// newReference reads the chunk list of a base version; nil when there is none
// worth having. A list that can not be read costs the delta, not the backup.
func newReference(ctx context.Context, r *repo.Repo, base *repo.RawEntry) *reference {
	var e repo.Entry
	if base.Type() != repo.TypeRegular || base.Size() == 0 || base.Entry(&e) != nil || e.Content.Chunks == 0 {
		return nil
	}
	g := &reference{}
	cr := r.Reader().Content(&e.Content)
	var off int64
	for len(g.refs) < maxReference {
		ref, ok, err := cr.Next(ctx)
		if err != nil {
			return nil
		}
		if !ok {
			break
		}
		g.refs = append(g.refs, ref)
		g.offs = append(g.offs, off)
		off += int64(ref.Len)
	}
	g.offs = append(g.offs, off)
	if len(g.refs) > 4 {
		g.byID = make(map[crypto.ID]int, len(g.refs))
		for i := range g.refs {
			at := i
			if _, twice := g.byID[g.refs[i].ID]; twice {
				at = several
			}
			g.byID[g.refs[i].ID] = at
		}
	}
	return g
}

const several = -1

// find tells whether the old version has a chunk, and where: the place nearest
// to i decides, several when it stands at more places and none is near.
func (g *reference) find(id crypto.ID, i int) (int, bool) {
	best := several
	for j := max(0, i-2); j < min(len(g.refs), i+3); j++ {
		if g.refs[j].ID == id && (best < 0 || abs(int64(j-i)) < abs(int64(best-i))) {
			best = j
		}
	}
	if best >= 0 {
		return best, true
	}
	if g.byID != nil {
		at, ok := g.byID[id]
		return at, ok
	}
	for j := range g.refs {
		if g.refs[j].ID == id {
			return j, true
		}
	}
	return 0, false
}

// like returns the chunks the old version had in the place of the new chunk
// at off. The result is valid until the next call. For a chunk the old version
// has too there are none: it is stored already.
func (g *reference) like(off int64, ref repo.Ref) []repo.Ref {
	n := int64(ref.Len)
	defer func() { g.last = [2]int64{g.last[1], n} }()
	at := off + g.drift
	// The old chunk that begins nearest to where this one is expected.
	i := sort.Search(len(g.refs), func(i int) bool { return g.offs[i] >= at })
	if j, ok := g.find(ref.ID, i); ok {
		// What stands all over the file, as zeros do, tells nothing of the place.
		if j != several {
			g.drift = g.offs[j] - off
		}
		return nil
	}
	best, bestDiff := -1, int64(nearEnough)
	for j := max(0, i-2); j < min(len(g.refs), i+2); j++ {
		if abs(int64(g.refs[j].Len)-n) > sameLength {
			continue
		}
		if d := abs(g.offs[j] - at); d < bestDiff {
			best, bestDiff = j, d
		}
	}
	if best < 0 {
		best = g.search(n)
	}
	if best >= 0 {
		g.drift = g.offs[best] - off
		at = g.offs[best]
	}
	lo := sort.Search(len(g.refs), func(i int) bool { return g.offs[i+1] > at-margin })
	g.buf = g.buf[:0]
	for j := lo; j < len(g.refs) && g.offs[j] < at+n+margin; j++ {
		g.buf = append(g.buf, g.refs[j])
	}
	return g.buf
}

// search looks all over the old version for the only chunk that has about the
// length n and comes after two that have about the lengths of the last two; -1
// when there is none, or more than one.
func (g *reference) search(n int64) int {
	if g.byLen == nil {
		g.byLen = make(map[int64][]int)
		for j := range g.refs {
			step := int64(g.refs[j].Len) / lengthStep
			g.byLen[step] = append(g.byLen[step], j)
		}
	}
	found := -1
	for step := n/lengthStep - 1; step <= n/lengthStep+1; step++ {
		if len(g.byLen[step]) > maxCrowd {
			return -1 // such as the greatest length there is
		}
		for _, j := range g.byLen[step] {
			if j < 2 || !g.about(j, n) || !g.about(j-1, g.last[1]) || !g.about(j-2, g.last[0]) {
				continue
			}
			if found >= 0 {
				return -1
			}
			found = j
		}
	}
	return found
}

func (g *reference) about(j int, n int64) bool { return abs(int64(g.refs[j].Len)-n) <= lengthStep }

func abs(n int64) int64 { return max(n, -n) }
