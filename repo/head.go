package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
)

// Files of the state directory, which lies outside the repository.
const (
	headName   = "head"   // how far each writer had come when this host last wrote
	writerName = "writer" // this state directory's own writer id
)

// Maxima of those files.
const (
	maxHeadSize   = 16 << 20
	maxWriters    = 65_536 // every run without a state directory that lasts is a new one
	maxWriterSize = 64
)

// head is what this host remembers of a repository, so that one that was put
// back to an older state is known when it is seen. It is one line of JSON and
// a checksum line.
type head struct {
	Repository crypto.RepoID `json:"repository"`
	Writers    []headWriter  `json:"writers"` // ascending by id
}

// headWriter is the last whole file of a writer.
type headWriter struct {
	Writer writerID `json:"writer"`
	Seq    uint64   `json:"seq"`
	Hash   hash     `json:"hash"`
}

func (h *head) encode() ([]byte, error) {
	b, err := json.Marshal(head{h.Repository, append([]headWriter{}, h.Writers...)}) // an array also when empty
	if err != nil {
		return nil, err
	}
	return appendChecksum(append(b, '\n')), nil
}

func decodeHead(b []byte) (*head, error) {
	text, ok := cutChecksum(b)
	if !ok {
		return nil, errors.New("its checksum does not fit")
	}
	line, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return nil, errors.New("it is not one line of JSON")
	}
	h := new(head)
	if err := readJSON([]byte(line), h.read); err != nil {
		return nil, err
	}
	if h.Repository.IsZero() {
		return nil, errors.New("it names no repository")
	}
	for i, w := range h.Writers {
		if w.Seq == 0 || w.Seq > maxSeq || w.Hash == (hash{}) || w.Writer == (writerID{}) {
			return nil, errors.New("it names a writer without saying how far it was")
		}
		if i > 0 && slices.Compare(h.Writers[i-1].Writer[:], w.Writer[:]) >= 0 {
			return nil, errors.New("its writers are not in order")
		}
	}
	return h, nil
}

func (h *head) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "repository":
			r.into(&h.Repository)
		case "writers":
			r.array(maxWriters, func() { h.Writers = append(h.Writers, r.headWriter()) })
		default:
			return false
		}
		return true
	})
}

func (r *jsonReader) headWriter() (w headWriter) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "writer":
			r.into(&w.Writer)
		case "seq":
			w.Seq = r.uint(64)
		case "hash":
			r.into(&w.Hash)
		default:
			return false
		}
		return true
	})
	return w
}

// errForeignState: the state directory remembers another repository. It is not
// taken over, whatever is accepted: that one would lose its head.
var errForeignState = errors.New("the state directory is that of repository")

// readHead returns the head kept in a state directory for repository repo. No
// head is nil without an error: the repository is trusted then, which the
// user must be told. A damaged head is ErrDamaged: nothing can be said about
// the repository until it is accepted.
func readHead(state durable.FS, repo crypto.RepoID) (*head, error) {
	b, err := durable.ReadFile(state, headName, maxHeadSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s in the state directory: %v", headName, err)
	}
	h, err := decodeHead(b)
	if err != nil {
		return nil, fmt.Errorf("%s in the state directory: %w: %v; \"backupd repo check --accept-head\" takes the repository as it is", headName, ErrDamaged, err)
	}
	if h.Repository != repo {
		return nil, fmt.Errorf("%w %v, this one is %v; give another --state-dir", errForeignState, h.Repository, repo)
	}
	return h, nil
}

// compareHead returns ErrRollback, with words on what is missing, unless the
// repository still holds all that h has seen. A file that is there but
// damaged is no rollback; the chain's problems tell of it.
func (c *chain) compareHead(h *head) error {
	if h == nil {
		return nil
	}
	var missing []string
	for _, w := range h.Writers {
		at := place{w.Writer, w.Seq}
		known, ok := c.hashAt(at)
		end := c.ends[at.writer]
		switch {
		case ok && known == w.Hash:
		case ok:
			missing = append(missing, fmt.Sprintf("%s is another file than it was", at.name()))
		case end.seq == 0:
			missing = append(missing, fmt.Sprintf("all %d files of writer %x are missing", w.Seq, w.Writer[:]))
		case end.seq < w.Seq:
			missing = append(missing, fmt.Sprintf("writer %x ends with number %d, this host has seen %d", w.Writer[:], end.seq, w.Seq))
		case c.files[at] == nil:
			missing = append(missing, fmt.Sprintf("%s is missing", at.name()))
		default:
			// Something that can not be read stands there. Anybody can put it there,
			// so it vouches for none of those before it.
			if first, last, gap := c.firstGap(at, end.wholeSeq); gap {
				missing = append(missing, fmt.Sprintf("%s up to number %d are missing below a file that can not be read", place{at.writer, first}.name(), last))
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if len(missing) > maxCandidates {
		missing = append(missing[:maxCandidates], fmt.Sprintf("%d more writers alike", len(missing)-maxCandidates))
	}
	return fmt.Errorf("%w: %s; if the repository was put back on purpose, \"backupd repo check --accept-head\" takes it as it is",
		ErrRollback, strings.Join(missing, "; "))
}

// firstGap finds the first numbers above whole and below at that have no file.
func (c *chain) firstGap(at place, whole uint64) (first, last uint64, gap bool) {
	there := []uint64{at.seq}
	for f := range c.files {
		if f.writer == at.writer && f.seq > whole && f.seq < at.seq {
			there = append(there, f.seq)
		}
	}
	slices.Sort(there)
	before := whole
	for _, seq := range there {
		if seq != before+1 {
			return before + 1, seq - 1, true
		}
		before = seq
	}
	return 0, 0, false
}

// behind tells whether writer has published what h does not know of: a run of
// it ended before it was remembered.
func (h *head) behind(c *chain, writer writerID) bool {
	var known uint64
	if h != nil {
		for _, w := range h.Writers {
			if w.Writer == writer {
				known = w.Seq
			}
		}
	}
	return known < c.ends[writer].wholeSeq
}

// forward returns h moved on to what c holds. No writer ever goes back, and
// none is dropped.
func (h *head) forward(repo crypto.RepoID, c *chain) *head {
	last := map[writerID]headWriter{}
	for w, end := range c.ends {
		if end.wholeHash != (hash{}) {
			last[w] = headWriter{w, end.wholeSeq, end.wholeHash}
		}
	}
	if h != nil {
		for _, w := range h.Writers {
			if last[w.Writer].Seq < w.Seq {
				last[w.Writer] = w
			}
		}
	}
	next := &head{Repository: repo}
	for _, w := range last {
		next.Writers = append(next.Writers, w)
	}
	slices.SortFunc(next.Writers, func(a, b headWriter) int { return slices.Compare(a.Writer[:], b.Writer[:]) })
	return next
}

// writeHead replaces the head in a state directory. It is called after a file
// was published and before that is reported: step S2 of the write order.
func writeHead(state durable.FS, h *head) error {
	b, err := h.encode()
	if err != nil {
		return err
	}
	if len(b) > maxHeadSize || len(h.Writers) > maxWriters {
		return fmt.Errorf("%s in the state directory: the repository has %d writers, at most %d can be remembered", headName, len(h.Writers), maxWriters)
	}
	return durable.ReplaceFile(state, headName, b)
}

// acceptHead takes the repository as it is, whatever the head said. The state
// directory gets a new writer id first: the numbers its old writer has used
// and the repository has lost must not be used for other files, which the
// head of another host may know.
func acceptHead(state durable.FS, repo crypto.RepoID, c *chain) error {
	if _, err := replaceWriter(state); err != nil {
		return err
	}
	return writeHead(state, (*head)(nil).forward(repo, c))
}

// readWriter returns the state directory's writer id. When there is none, or
// the file does not hold one, ok is false and replaceWriter makes one: a new
// writer is always safe.
func readWriter(state durable.FS) (w writerID, ok bool, err error) {
	b, err := durable.ReadFile(state, writerName, maxWriterSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writerID{}, false, nil
	case err != nil:
		return writerID{}, false, fmt.Errorf("%s in the state directory: %v", writerName, err)
	}
	text, _ := strings.CutSuffix(string(b), "\n")
	if w.UnmarshalText([]byte(text)) != nil {
		return writerID{}, false, nil
	}
	return w, true, nil
}

// replaceWriter gives the state directory a new writer id.
func replaceWriter(state durable.FS) (writerID, error) {
	w, err := newWriter()
	if err != nil {
		return writerID{}, err
	}
	return w, durable.ReplaceFile(state, writerName, fmt.Appendf(nil, "%x\n", w[:]))
}

// writerFor returns the writer id to publish with: the state directory's own,
// or a new one when there is none or its chain can not be continued.
func writerFor(state durable.FS, c *chain) (writerID, error) {
	w, ok, err := readWriter(state)
	if err != nil || ok && c.canContinue(w) {
		return w, err
	}
	return replaceWriter(state)
}
