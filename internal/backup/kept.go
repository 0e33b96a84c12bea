package backup

import (
	"github.com/generalbots/backupd/repo"
)

// same tells whether data, the file from here on, begins with the first of the
// chunks the base has from here on. Then it would be cut there too, as where a
// chunk ends is said by its own bytes; but for the last one, which ended because
// the file did.
func (wk *worker) same(kept []repo.Ref, data []byte, eof bool) bool {
	n := int(kept[0].Len)
	if n > len(data) || len(kept) == 1 && (!eof || n < len(data)) {
		return false
	}
	return wk.lane.Ref(data[:n]) == kept[0]
}

// kept returns the chunks of the file in the base that are as good as stored,
// so that as long as the file begins with them nobody is asked and nothing cut:
// the snapshot takes over unchanged files unread on no other ground. A full
// backup asks for every chunk, and so does one that may find some lost.
func (wk *worker) kept(it *item) []repo.Ref {
	if !wk.keeps(it, &wk.was) {
		return nil
	}
	return wk.was.Content.Inline
}

// keeps tells whether chunks of a file in the base may be taken over, and reads
// its entry there.
func (x *run) keeps(it *item, was *repo.Entry) bool {
	return it.hasBase && !x.fresh && x.base.part.Profile == x.part.Profile && !x.distrusts() && it.base.Type() == repo.TypeRegular && it.base.Entry(was) == nil
}

// following goes along the chunks that a large file had in the base while the
// file is cut. Where one of them stands at its old place it is not cut, and, as
// with kept, nobody is asked about it. After a change the two meet again at the
// next place where both have a boundary; what moved does not meet.
type following struct {
	ids  repo.Identifier
	most int // bytes of a chunk: no more are waited for, whatever a list says
	next func() (repo.Ref, bool)
	off  int64    // where in the base ref begins
	ref  repo.Ref // Len is 0 at the end
	then repo.Ref // what comes after ref

	// To find that a chunk has changed costs its hash, which is of no use where
	// the new one is cut elsewhere. So after each in a row of which that is so,
	// twice as many are cut without a look, up to a bound.
	missed, skip int
}

// maxSkip bounds how many chunks are cut without a look: one in so many is
// hashed in vain in a file that was rewritten all over.
const maxSkip = 31

// follow returns what goes along the base of a large file; nil where nothing
// of it can be taken over.
func (x *run) follow(it *item) *following {
	var e repo.Entry
	if !x.keeps(it, &e) {
		return nil
	}
	cr := x.repo.Reader().Content(&e.Content)
	return newFollowing(x.w.Identifier(), x.maxChunk, func() (repo.Ref, bool) {
		ref, ok, err := cr.Next(x.ctx)
		return ref, ok && err == nil
	})
}

func newFollowing(ids repo.Identifier, most int, next func() (repo.Ref, bool)) *following {
	f := &following{ids: ids, most: most, next: next}
	f.then = f.read()
	f.step()
	return f
}

func (f *following) read() repo.Ref {
	ref, ok := f.next()
	if !ok {
		f.next = func() (repo.Ref, bool) { return repo.Ref{}, false }
		return repo.Ref{}
	}
	return ref
}

func (f *following) step() {
	f.off += int64(f.ref.Len)
	f.ref, f.then = f.then, f.read()
}

// at tells whether data, the file from off on, begins with the chunk that the
// base had there: then ref is that. If not, ref may name as many bytes of data
// as that had, for cut to tell whether they are a chunk. more says that it takes
// more data to tell.
func (f *following) at(off int64, data []byte, eof bool) (ref repo.Ref, same, more bool) {
	if f == nil {
		return ref, false, false
	}
	for f.ref.Len > 0 && f.off < off {
		f.step()
	}
	n := int(f.ref.Len)
	if n == 0 || f.off != off {
		return ref, false, false
	}
	if f.skip > 0 {
		f.skip--
		return ref, false, false
	}
	if n > len(data) {
		return ref, false, !eof && n <= f.most
	}
	if f.then.Len == 0 && (!eof || n < len(data)) {
		return ref, false, false
	}
	ref = f.ids.Ref(data[:n])
	if ref == f.ref {
		f.missed = 0
	}
	return ref, ref == f.ref, false
}

// cut takes what at named where a chunk of n bytes begins, 0 when it ends beyond
// the data, and returns the chunk's name if it is that: what was written within a
// chunk seldom moves its end. Else Len is 0.
func (f *following) cut(ref repo.Ref, n int) repo.Ref {
	if ref.Len == 0 || int(ref.Len) == n {
		return ref
	}
	f.missed = min(2*f.missed+1, maxSkip)
	f.skip = f.missed
	return repo.Ref{}
}
