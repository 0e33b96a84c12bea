package backup

import (
	"bytes"
	"encoding/binary"
	"math"
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
// edited. How near depends on how long the place was not seen: in sixteen days
// of edits a chunk in thirty has the length of a neighbour of its like, and
// each that is taken for it misplaces those that follow. A table whose rows move,
// as in PostgreSQL, changes the length of every chunk besides, and the drift with
// each, so that a place once lost would stay lost: unless a chunk begins as near as
// that for certain and the one before it fits too, one is looked for around that
// ends four in a row of roughly the same lengths. Where that gives none that is near,
// as behind an insertion, four of nearly the same lengths are looked for all over the
// old version; only then is one taken that is less near, and further away only
// where the chunk before fits too.
type reference struct {
	refs  []repo.Ref
	offs  []int64                 // of each chunk, and the end
	byID  map[uint64]int32        // by the first bytes of an id where it stands; several for one that stands more than once
	next  func() (repo.Ref, bool) // what comes after refs; nil at the end
	drift int64                   // old offset minus new offset
	lost  int64                   // new chunks since the place was seen last
	buf   []repo.Ref

	below   uint8   // only chunks that lie less deep are taken
	depths  []uint8 // of each chunk, once it was asked for
	depthOf func(crypto.ID) uint8

	last  [3]int64          // lengths of the new chunks before, the latest first
	byLen map[int64][]int32 // chunks by length, in steps of lengthStep; made when the place is lost
}

const (
	// maxReference bounds the chunks of a base version that are in memory. Of
	// a longer list it is a window, which moves on as the file is read.
	maxReference = 1 << 15
	// margin is how much more of the old version is taken on either side.
	margin = 16 << 10
	// sameLength is how much the length of an edited chunk may differ,
	// certain how far from the expected place it may begin, and perChunk how
	// much further for each chunk that gave no place before it. Up to
	// nearEnough the chunk before it must fit too.
	sameLength = 1 << 10
	certain    = 3 << 10
	perChunk   = 1 << 10
	nearEnough = 48 << 10
	// lengthStep is how much the lengths of four edited chunks in a row may
	// differ to find the place again. Four at random agree about once in 10^8.
	lengthStep = 128
	// roughLength is how much they may differ within inSight of the expected place,
	// of which that many chunks on either side are looked at.
	roughLength = 1536
	inSight     = 256 << 10
	sight       = 24
	// maxCrowd bounds how many chunks of about one length are looked at.
	maxCrowd = 1 << 10
)

// references are versions of one file, the one to try first ahead.
type references struct {
	versions []*reference
	guess    *repo.Guess // of the file, or of all small ones
	at       []int64     // in each version, of the chunk that is looked at
}

// skipDeltas is the size from which a file is looked up in base.deltas. The
// smaller ones take their base: for them a version stored plain now and then
// costs less than the look-ups.
const skipDeltas = 1 << 20

// unknownDepth stands in reference.depths for what was not asked for.
const unknownDepth = math.MaxUint8

// references returns the versions an item's new chunks are compared with.
func (x *run) references(it *item) (rs references) {
	if !it.hasBase {
		return rs
	}
	if rs.guess = &x.small; it.entry.Size >= largeFile {
		rs.guess = new(repo.Guess)
	}
	if it.entry.Size < skipDeltas {
		rs.add(x.newReference(&it.base, thinDepth))
		return rs
	}
	for _, root := range x.base.deltas.roots {
		if root == x.base.root {
			rs.add(x.newReference(&it.base, x.base.deltas.below))
		} else if raw, ok := find(x.ctx, x.repo, root, it.path()); ok {
			rs.add(x.newReference(&raw, x.base.deltas.below))
		}
	}
	return rs
}

func (rs *references) add(g *reference) {
	if g != nil {
		rs.versions = append(rs.versions, g)
	}
}

// like returns the chunks that an old version had in the place of the new
// chunk at off: of the first version where they lie no deeper than is allowed.
// The result is valid until the next call. For a chunk that an old version has
// too there are none: it is stored already. Nor are there while the guesses
// went wrong; the place is followed all the same.
func (rs *references) like(off int64, ref repo.Ref) []repo.Ref {
	known := false
	rs.at = rs.at[:0]
	for _, g := range rs.versions {
		at, here := g.follow(off, ref)
		rs.at, known = append(rs.at, at), known || here
	}
	if known || len(rs.versions) == 0 || rs.guess.Skip(int(ref.Len)) {
		return nil
	}
	for i, g := range rs.versions {
		if like := g.around(rs.at[i], int64(ref.Len)); len(like) > 0 {
			return like
		}
	}
	return nil
}

// newReference reads the chunk list of a base version; nil when there is none
// worth having. A list that can not be read costs the delta, not the backup.
func (x *run) newReference(base *repo.RawEntry, below uint8) *reference {
	var e repo.Entry
	if base.Type() != repo.TypeRegular || base.Size() == 0 || base.Entry(&e) != nil || e.Content.Chunks == 0 {
		return nil
	}
	g := &reference{below: below, depthOf: func(id crypto.ID) uint8 { return x.repo.Reader().Depth(x.ctx, id) }}
	cr := x.repo.Reader().Content(&e.Content)
	g.next = func() (repo.Ref, bool) {
		ref, ok, err := cr.Next(x.ctx)
		return ref, ok && err == nil
	}
	g.offs = []int64{0}
	g.load(maxReference)
	return g
}

// load reads on until there are n chunks.
func (g *reference) load(n int) {
	for g.next != nil && len(g.refs) < n {
		ref, ok := g.next()
		if !ok {
			g.next = nil
			break
		}
		g.refs = append(g.refs, ref)
		g.offs = append(g.offs, g.offs[len(g.offs)-1]+int64(ref.Len))
	}
	g.byID, g.byLen = nil, nil
	if len(g.refs) > 4 {
		g.index()
	}
}

// slide moves the window on, by half of it, until at lies in its front.
func (g *reference) slide(at int64) {
	for g.next != nil && at > g.offs[len(g.refs)*3/4] {
		n := len(g.refs)
		g.refs = g.refs[:copy(g.refs, g.refs[n/2:])]
		g.offs = g.offs[:copy(g.offs, g.offs[n/2:])]
		g.depths = nil
		g.load(n)
	}
}

// index makes byID. Eight bytes of an id are as good as all of them to find
// it, and a quarter of the memory.
func (g *reference) index() {
	g.byID = make(map[uint64]int32, len(g.refs))
	for i := range g.refs {
		at, key := int32(i), binary.LittleEndian.Uint64(g.refs[i].ID[:])
		if _, twice := g.byID[key]; twice {
			at = several
		}
		g.byID[key] = at
	}
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
		at, ok := g.byID[binary.LittleEndian.Uint64(id[:])]
		return int(at), ok && (at == several || g.refs[at].ID == id)
	}
	for j := range g.refs {
		if g.refs[j].ID == id {
			return j, true
		}
	}
	return 0, false
}

// follow returns where the old version had what the new chunk at off became,
// and whether it has that very chunk.
func (g *reference) follow(off int64, ref repo.Ref) (at int64, here bool) {
	n := int64(ref.Len)
	defer func() { g.last = [3]int64{n, g.last[0], g.last[1]} }()
	at = off + g.drift
	g.slide(at)
	// The old chunk that begins nearest to where this one is expected.
	i := sort.Search(len(g.refs), func(i int) bool { return g.offs[i] >= at })
	if j, ok := g.find(ref.ID, i); ok {
		// What stands all over the file, as zeros do, tells nothing of the place.
		if j != several {
			g.drift = g.offs[j] - off
			g.lost = 0
		}
		return at, true
	}
	best := g.near(i, at, n)
	if best < 1 || abs(g.offs[best]-at) > certain || !g.alike(best-1, g.last[0], sameLength) {
		if j := g.along(i, at, n); j >= 0 {
			best = j
		}
	}
	if best < 0 || abs(g.offs[best]-at) > certain {
		if j := g.search(n); j >= 0 {
			best = j
		}
	}
	if best >= 0 {
		g.drift = g.offs[best] - off
		at = g.offs[best]
		g.lost = 0
	} else {
		g.lost++
	}
	return at, false
}

// along looks around chunk i for one that has roughly the length n and comes
// after three that have roughly the lengths of the last three, the nearest of
// them; -1 when there is none.
func (g *reference) along(i int, at, n int64) int {
	best, bestDiff := -1, int64(inSight)
	if g.last[2] == 0 {
		return best
	}
	for j := max(3, i-sight); j < min(len(g.refs), i+sight); j++ {
		if d := abs(g.offs[j] - at); d < bestDiff && g.alike(j, n, roughLength) && g.alike(j-1, g.last[0], roughLength) &&
			g.alike(j-2, g.last[1], roughLength) && g.alike(j-3, g.last[2], roughLength) {
			best, bestDiff = j, d
		}
	}
	return best
}

func (g *reference) alike(j int, n, most int64) bool { return abs(int64(g.refs[j].Len)-n) <= most }

// near looks around chunk i, which begins about where one of length n is
// expected, for one that has about that length; -1 when there is none.
func (g *reference) near(i int, at, n int64) int {
	best, bestDiff := -1, int64(nearEnough)
	sure := certain + g.lost*perChunk
	for j := max(0, i-2); j < min(len(g.refs), i+2); j++ {
		if abs(int64(g.refs[j].Len)-n) > sameLength {
			continue
		}
		d := abs(g.offs[j] - at)
		if d > sure && (j == 0 || abs(int64(g.refs[j-1].Len)-g.last[0]) > sameLength) {
			continue
		}
		if d < bestDiff {
			best, bestDiff = j, d
		}
	}
	return best
}

// around returns the chunks from at for n bytes and a margin on either side.
// Those of the margins are left out where they lie too deep; where one of the
// others does there are none. A chunk that was written within, as pages of
// databases and images are and most rows, had about the same ends: it needs no
// margins, whose chunks would have to be read then and whenever it is restored.
func (g *reference) around(at, n int64) []repo.Ref {
	if g.depths == nil {
		g.depths = bytes.Repeat([]byte{unknownDepth}, len(g.refs))
	}
	g.buf = g.buf[:0]
	margin := int64(margin)
	if i := sort.Search(len(g.refs), func(i int) bool { return g.offs[i] >= at }); i < len(g.refs) && g.offs[i] == at && abs(int64(g.refs[i].Len)-n) <= sameLength {
		margin, n = 0, int64(g.refs[i].Len)
	}
	lo := sort.Search(len(g.refs), func(i int) bool { return g.offs[i+1] > at-margin })
	for j := lo; j < len(g.refs) && g.offs[j] < at+n+margin; j++ {
		if g.depths[j] == unknownDepth {
			g.depths[j] = g.depthOf(g.refs[j].ID)
		}
		if g.depths[j] < g.below {
			g.buf = append(g.buf, g.refs[j])
		} else if min(g.offs[j+1], at+n)-max(g.offs[j], at) > margin {
			return nil
		}
	}
	return g.buf
}

// search looks all over the old version for the only chunk that has about the
// length n and comes after three that have about the lengths of the last three; -1
// when there is none, or more than one.
func (g *reference) search(n int64) int {
	if len(g.refs) <= len(g.last) || g.last[2] == 0 {
		return -1
	}
	if g.byLen == nil {
		g.byLen = make(map[int64][]int32)
		for j := range g.refs {
			step := int64(g.refs[j].Len) / lengthStep
			g.byLen[step] = append(g.byLen[step], int32(j))
		}
	}
	found := -1
	for step := n/lengthStep - 1; step <= n/lengthStep+1; step++ {
		if len(g.byLen[step]) > maxCrowd {
			return -1 // such as the greatest length there is
		}
		for _, at := range g.byLen[step] {
			j := int(at)
			if j < 3 || !g.alike(j, n, lengthStep) || !g.alike(j-1, g.last[0], lengthStep) || !g.alike(j-2, g.last[1], lengthStep) || !g.alike(j-3, g.last[2], lengthStep) {
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

func abs(n int64) int64 { return max(n, -n) }
