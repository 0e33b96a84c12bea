package backup

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// base is what a run compares with: a part of an earlier snapshot.
type base struct {
	snapshot *repo.Snapshot // nil: there is none
	part     *repo.Part
	root     *repo.Entry
	before   source.Time // files changed since may have been read too early

	deltas versions // of large files
}

// racyMargin is how much older than the run that read it a file's change time
// must be for the file to count as settled. File systems stamp with the
// kernel's tick, so a change right after a read can carry an earlier time than
// the read (git's "racy" case). A time of whole seconds may come from a file
// system that keeps no finer ones, FAT's step being two seconds.
const (
	racyMargin       = 100 * time.Millisecond
	racyMarginCoarse = 2 // seconds, on top of the other
)

// findBase chooses the base of a part: the latest snapshot of the same host
// that has the same source with the same paths and did not fail to read it, for
// a differential the latest full one. Without one, or when its tree can not be
// read, the part is read whole. A snapshot that was begun later
// than now shows that the clock went backwards: what it says of times proves
// nothing, so it serves only where there is no other, and then nothing is
// taken over from it unread.
func findBase(ctx context.Context, r *repo.Repo, o *Options, p *repo.Part, now time.Time) (*base, []string) {
	var notes []string
	var ahead *base
	snaps := r.Snapshots()
	for i := len(snaps) - 1; i >= 0; i-- {
		s := snaps[i]
		if s.Host != o.Host || o.Type == Differential && s.Type != string(Full) {
			continue
		}
		part := samePart(s, p)
		if part == nil {
			continue
		}
		root, err := r.Root(part)
		if err == nil {
			// A first page that can be read is no proof; later trouble only
			// costs the entries concerned their base.
			_, _, err = r.Reader().Dir(root.Dir).Next(ctx)
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("snapshot %s can not be the base: %v", s.ID, err))
			continue
		}
		at := part.StartedAt.Add(-racyMargin)
		b := &base{snapshot: s, part: part, root: root, before: source.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}}
		b.deltas = findVersions(r, snaps[:i], b, p, o.Host)
		if !part.StartedAt.After(now) {
			return b, notes
		}
		if ahead == nil {
			ahead = b
			b.before = source.Time{Sec: math.MinInt64}
			notes = append(notes, fmt.Sprintf("the clock went backwards: snapshot %s was begun at %s, and proves nothing about what changed since",
				s.ID, part.StartedAt.Format(time.RFC3339)))
		}
	}
	if ahead != nil {
		return ahead, notes
	}
	return &base{}, notes
}

// find looks a path up below a root.
func find(ctx context.Context, r *repo.Repo, root *repo.Entry, path []byte) (repo.RawEntry, bool) {
	dir := root.Dir
	var raw repo.RawEntry
	names := bytes.Split(bytes.Trim(path, "/"), []byte{'/'})
	for i, name := range names {
		var ok bool
		var err error
		raw, ok, err = r.Reader().Dir(dir).Find(ctx, string(name))
		if err != nil || !ok {
			return raw, false
		}
		if i == len(names)-1 {
			break
		}
		var e repo.Entry
		if raw.Type() != repo.TypeDirectory || raw.Entry(&e) != nil {
			return raw, false
		}
		dir = e.Dir
	}
	return raw, true
}

// samePart finds the part of s that holds the same paths of the same source.
func samePart(s *repo.Snapshot, p *repo.Part) *repo.Part {
	for i := range s.Parts {
		q := &s.Parts[i]
		if !q.Failed && q.Source == p.Source && q.Kind == p.Kind && slices.EqualFunc(sorted(q.Paths), sorted(p.Paths), bytes.Equal) {
			return q
		}
	}
	return nil
}

func sorted(paths [][]byte) [][]byte {
	out := slices.Clone(paths)
	slices.SortFunc(out, bytes.Compare)
	return out
}

// unchanged decides whether a file can be taken over from the base unread:
// nothing that lstat tells differs, nor do the names of its owners, and its change time is clearly before the
// base was begun. A change time in the future proves a clock that went back,
// and where change times say nothing no look is enough, so the file is read.
func (x *run) unchanged(e *source.Entry, b *repo.RawEntry) bool {
	if x.fresh || e.Timeless || b.Ctime() == partialCtime || !x.sameStat(e, b) {
		return false
	}
	settled := e.Ctime
	if settled.Nsec == 0 && settled.Sec <= math.MaxInt64-racyMarginCoarse {
		settled.Sec += racyMarginCoarse
	}
	return earlier(settled, x.base.before)
}

// distrusts tells whether chunks that the base names may have been lost unnoticed. There is a base.
func (x *run) distrusts() bool { return x.w.Distrusts() || !x.w.Remembers(x.base.snapshot) }

// partialCtime is the change time of an entry that was stored with a problem:
// attributes that could not be read, content of no one moment. Such an entry is
// no base, or the next run would take it over and say that all is well.
var partialCtime = repo.Time{}

// sameStat tells whether lstat says what the base has. The number of the
// device is left out, since it may change with every boot; but files with
// several names are told apart by it, so theirs must be of one boot. The names
// of the owners are what a restore goes by: an account that was renamed, or
// whose number another has by now, changes nothing that lstat tells.
func (x *run) sameStat(e *source.Entry, b *repo.RawEntry) bool {
	if repo.Type(e.Type) != b.Type() {
		return false
	}
	ct := repo.Time(e.Ctime)
	if ct != b.Ctime() || repo.Time(e.Mtime) != b.Mtime() || e.Ino != b.Inode() || e.Mode != b.Mode() ||
		e.UID != b.UID() || e.GID != b.GID() || e.Nlink != b.Nlink() {
		return false
	}
	oneInode := e.Type == source.Directory || e.Nlink == 1 || e.Dev == b.Device()
	if !oneInode || e.Type == source.Regular && e.Size != b.Size() {
		return false
	}
	user, group := x.src.Owner(e)
	return user == string(b.User()) && group == string(b.Group())
}

func earlier(a, b source.Time) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }
