package repo

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Each writer numbers the files it adds to the directory snapshots from 1,
// without gaps, and each file holds the hash of the one before. So a file that
// is gone, replaced or put elsewhere is found, and a copy of the repository
// that is merely old is found against the head. A manifest may go only after
// a forget record took over its number and both hashes.
//
//	writer a:  1 snapshot <- 2 snapshot <- 3 forget a1 <- 4 snapshot
//	writer b:  1 snapshot <- 2 undelete a3
//
// Whether a snapshot counts does not depend on an order among writers: it is
// forgotten when there is a forget record of it that no undelete record takes
// back. Records never go.

// Snapshot is a manifest as it stands in a repository.
type Snapshot struct {
	Manifest
	Forgotten   bool      // gc will remove it; until then it can be undeleted
	ForgottenAt time.Time // as the host's clock had it
	Size        int64     // of the manifest's file in bytes

	at    place
	order time.Time // CreatedAt, or that of a snapshot its writer made before it when that is later
}

// chainFile is one file of the directory snapshots as it was found: read
// whole, or with the error that says what is wrong with it.
type chainFile struct {
	name string
	at   place
	size int64
	hash hash // of the bytes as they are; zero when they could not be read
	body *chainBody
	err  error
}

// chainProblem is something wrong with the files of the chain. None of them
// keeps a repository from being read or written; gc refuses while there is
// one, since it may hide a snapshot.
type chainProblem struct {
	name string // of the object it is about
	text string
	err  error // of a file that is damaged or could not be read
}

func (p *chainProblem) Error() string {
	if p.err != nil {
		return p.err.Error() // which names the object
	}
	return p.name + ": " + p.text
}

// chainEnd is how far a writer has come.
type chainEnd struct {
	seq uint64 // the last number that is taken
	// The last file whose hash is known. When it is not the last file, that
	// one is damaged, and the writer is not continued: a successor would have
	// to name bytes that are not those that were written.
	wholeSeq  uint64
	wholeHash hash
}

// chain is all that the files of the directory snapshots say. It does not
// change: publishing makes a new one.
type chain struct {
	files     map[place]*chainFile
	foreign   []*chainFile // objects that no writer made
	snapshots []*Snapshot  // live ones, sorted by byCreation
	forgotten []*Snapshot  // those whose file is still there
	problems  []*chainProblem
	ends      map[writerID]chainEnd
	forgets   map[place][]place // by file, the forget records of it that nobody took back
	records   map[place][]*forgetRecord
}

// newChain works out what files mean together. The result depends on nothing
// else, neither on their order nor on the clock.
func newChain(files []*chainFile) *chain {
	c := &chain{
		files:   make(map[place]*chainFile, len(files)),
		ends:    map[writerID]chainEnd{},
		forgets: map[place][]place{},
		records: map[place][]*forgetRecord{},
	}
	for _, f := range files {
		if f.at == (place{}) {
			c.foreign = append(c.foreign, f)
			c.report(f.name, f.err)
		} else {
			c.files[f.at] = f
		}
	}
	ordered := slices.SortedFunc(maps.Values(c.files), func(a, b *chainFile) int { return comparePlaces(a.at, b.at) })
	c.applyRecords(ordered)
	c.collectSnapshots(ordered)
	c.followLinks()
	slices.SortFunc(c.problems, func(a, b *chainProblem) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.text, b.text))
	})
	return c
}

func comparePlaces(a, b place) int {
	return cmp.Or(slices.Compare(a.writer[:], b.writer[:]), cmp.Compare(a.seq, b.seq))
}

// list returns the files the chain was made of.
func (c *chain) list() []*chainFile {
	return append(slices.Collect(maps.Values(c.files)), c.foreign...)
}

func (c *chain) problem(name, format string, args ...any) {
	c.problems = append(c.problems, &chainProblem{name: name, text: fmt.Sprintf(format, args...)})
}

func (c *chain) report(name string, err error) {
	c.problems = append(c.problems, &chainProblem{name: name, text: err.Error(), err: err})
}

// applyRecords finds which files are forgotten.
func (c *chain) applyRecords(ordered []*chainFile) {
	takenBack := map[place]bool{}
	for _, f := range ordered {
		if f.body == nil || f.body.Undelete == nil {
			continue
		}
		u := f.body.Undelete
		of := c.files[u.place()]
		switch {
		case of == nil || of.body == nil:
			// The gap or the damage is reported where it is.
			takenBack[u.place()] = true
		case of.body.Forget == nil || of.body.Forget.ID != u.ID:
			c.problem(f.name, "it takes back a forget record of %s at %s, where there is none", u.ID, of.name)
		default:
			takenBack[u.place()] = true
		}
	}
	for _, f := range ordered {
		if f.body == nil || f.body.Forget == nil {
			continue
		}
		r := f.body.Forget
		c.records[r.place()] = append(c.records[r.place()], r)
		if of := c.files[r.place()]; of != nil && of.body != nil {
			if of.body.Snapshot == nil || of.body.Snapshot.ID != r.ID || of.hash != r.Hash {
				// Lost when it was forgotten, and back since.
				if r.ID != "" {
					c.problem(f.name, "it forgets snapshot %s at %s, where something else stands", r.ID, of.name)
				}
				continue
			}
		}
		if !takenBack[f.at] {
			c.forgets[r.place()] = append(c.forgets[r.place()], f.at)
		}
	}
}

// collectSnapshots sorts manifests into live and forgotten ones and reports
// damaged files. A damaged file that was forgotten is no problem: nobody wants
// it back.
func (c *chain) collectSnapshots(ordered []*chainFile) {
	seen := map[string]*chainFile{}
	latest := map[writerID]time.Time{}
	for _, f := range ordered {
		forgets := c.forgets[f.at]
		switch {
		case f.body == nil && len(forgets) == 0:
			c.report(f.name, f.err)
		case f.body != nil && f.body.Snapshot != nil:
			s := &Snapshot{Manifest: *f.body.Snapshot, Size: f.size, at: f.at}
			if other := seen[s.ID]; other != nil {
				c.problem(f.name, "it has the snapshot id %s, as %s has", s.ID, other.name)
			}
			seen[s.ID] = f
			if s.order = s.CreatedAt; s.order.Before(latest[f.at.writer]) {
				s.order = latest[f.at.writer]
			}
			latest[f.at.writer] = s.order
			if len(forgets) == 0 {
				c.snapshots = append(c.snapshots, s)
				continue
			}
			s.Forgotten = true
			s.ForgottenAt = c.files[forgets[0]].body.Forget.At
			c.forgotten = append(c.forgotten, s)
		}
	}
	slices.SortFunc(c.snapshots, byCreation)
	slices.SortFunc(c.forgotten, byCreation)
}

// link is what is known of one number of a writer.
type link struct {
	seq        uint64
	hash, prev hash // zero when not known
}

// followLinks compares, for each writer, every file with the one before it.
func (c *chain) followLinks() {
	links := map[writerID][]link{}
	for at, f := range c.files {
		if f.body != nil {
			links[at.writer] = append(links[at.writer], link{at.seq, f.hash, f.body.Prev})
		} else if len(c.records[at]) == 0 {
			links[at.writer] = append(links[at.writer], link{seq: at.seq})
		}
	}
	for at, records := range c.records {
		f := c.files[at]
		if f != nil && f.body != nil {
			continue
		}
		l := link{seq: at.seq}
		for _, r := range records {
			if l.hash == (hash{}) {
				l.hash, l.prev = r.Hash, r.Prev
			}
		}
		links[at.writer] = append(links[at.writer], l)
		if f == nil && len(c.forgets[at]) == 0 {
			c.problem(at.name(), "the manifest of snapshot %s is gone, though it was undeleted; put it back from another copy of the repository, or forget it again", records[0].ID)
		}
	}
	for w, list := range links {
		c.followWriter(w, list)
	}
}

func (c *chain) followWriter(w writerID, list []link) {
	slices.SortFunc(list, func(a, b link) int { return cmp.Compare(a.seq, b.seq) })
	end := chainEnd{seq: list[len(list)-1].seq}
	for _, l := range list {
		if l.hash != (hash{}) || len(c.records[place{w, l.seq}]) > 0 {
			end.wholeSeq, end.wholeHash = l.seq, l.hash
		}
	}
	c.ends[w] = end
	before := link{}
	for _, l := range list {
		first, last := before.seq+1, l.seq-1
		switch {
		case l.seq > end.wholeSeq:
			// Nothing vouches for the number of a damaged file at the end:
			// anybody can put a file there, so it proves no gap below it.
			return
		case first == last:
			c.problem(place{w, first}.name(), "the file is missing and no record says why; put it back from another copy of the repository")
		case first < last:
			c.problem(place{w, first}.name(), "this file and those up to number %d of its writer are missing and no record says why; put them back from another copy of the repository", last)
		case l.prev != hash{} && before.hash != hash{} && l.prev != before.hash:
			c.problem(place{w, l.seq}.name(), "it does not follow on %s: two histories were mixed in this repository", place{w, before.seq}.name())
		}
		before = l
	}
}

// hashAt returns the hash that the file of a place has or had, as far as the
// file itself, a forget record or the file after it tell.
func (c *chain) hashAt(at place) (h hash, known bool) {
	if f := c.files[at]; f != nil && f.body != nil {
		return f.hash, true
	}
	for _, r := range c.records[at] {
		if r.Hash != (hash{}) {
			return r.Hash, true
		}
	}
	next := place{at.writer, at.seq + 1}
	if f := c.files[next]; f != nil && f.body != nil {
		return f.body.Prev, true
	}
	for _, r := range c.records[next] {
		if r.Prev != (hash{}) {
			return r.Prev, true
		}
	}
	return hash{}, false
}

// find returns the snapshot of that id, live or forgotten.
func (c *chain) find(id string) *Snapshot {
	for _, list := range [][]*Snapshot{c.snapshots, c.forgotten} {
		for _, s := range list {
			if s.ID == id {
				return s
			}
		}
	}
	return nil
}

// resolve finds a live snapshot by "latest" or the beginning of its id.
func (c *chain) resolve(query string) (*Snapshot, error) {
	s, err := resolveSnapshot(c.snapshots, query)
	if err != nil && query != "latest" {
		if f, _ := resolveSnapshot(c.forgotten, query); f != nil {
			return nil, fmt.Errorf("snapshot %s: %w: it was forgotten; \"backupd repo undelete\" brings it back", f.ID, ErrNotFound)
		}
	}
	return s, err
}

// removable returns the objects that gc may remove once the packs that only
// they need are dealt with: manifests that are forgotten and damaged files
// that were given up.
func (c *chain) removable() []string {
	var names []string
	for at := range c.forgets {
		if f := c.files[at]; f != nil {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return names
}

// err returns nil when nothing is wrong with the files of the chain, and
// ErrDamaged with all that is otherwise. Nothing may be deleted then.
func (c *chain) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	list := make([]error, 0, maxCandidates+1)
	for _, p := range c.problems[:min(len(c.problems), maxCandidates)] {
		list = append(list, p)
	}
	if more := len(c.problems) - maxCandidates; more > 0 {
		list = append(list, fmt.Errorf("and %d more", more))
	}
	return fmt.Errorf("%w: %w", ErrDamaged, errors.Join(list...))
}

// canContinue reports whether writer may add to the chain: it is new, or its
// last file is whole.
func (c *chain) canContinue(writer writerID) bool {
	end := c.ends[writer]
	return end.seq == end.wholeSeq && (end.seq == 0 || end.wholeHash != hash{}) && end.seq < maxSeq
}
