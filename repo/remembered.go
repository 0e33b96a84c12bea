package repo

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
)

// What this host remembers beside the head: which packs there were, so that
// a pack that vanished is noticed before a backup builds on it, and which
// blocks a check found damaged, so that they are stored anew instead of being
// built upon. Losing either file costs the first run after it some time.
const (
	packListName = "packs"
	packListMax  = 1 << 30
	damageName   = "damaged"
	damageMax    = 16 << 20
)

// writePackList notes the packs of the catalog: the repository id, the pack
// ids, a BLAKE3 checksum.
func writePackList(state durable.FS, repo crypto.RepoID, c *catalog) error {
	numbers := c.all(0)
	b := make([]byte, 0, 16+16*len(numbers)+32)
	b = append(b, repo[:]...)
	for _, n := range numbers {
		id := c.info(n).id
		b = append(b, id[:]...)
	}
	sum := crypto.Sum256(b)
	return durable.ReplaceFile(state, packListName, append(b, sum[:]...))
}

// readPackList returns the packs that were there, or ok false when that is
// not known.
func readPackList(state durable.FS, repo crypto.RepoID) (ids []crypto.PackID, ok bool) {
	b, err := durable.ReadFile(state, packListName, packListMax)
	if err != nil || len(b) < 48 || len(b)%16 != 0 {
		return nil, false
	}
	body := b[:len(b)-32]
	if crypto.Sum256(body) != [32]byte(b[len(b)-32:]) || crypto.RepoID(body[:16]) != repo {
		return nil, false
	}
	for body = body[16:]; len(body) > 0; body = body[16:] {
		ids = append(ids, crypto.PackID(body[:16]))
	}
	return ids, true
}

func hasPack(c *catalog, id crypto.PackID) bool {
	_, ok := c.lookup(id)
	return ok
}

// comparePacks decides whether a run may take files over from its base
// without asking whether their chunks are still there.
func (r *Repo) comparePacks() error {
	if r.state == nil {
		r.distrust = false
		return nil
	}
	was, ok := readPackList(r.state, r.id)
	var gone int
	for _, id := range was {
		if !hasPack(r.catalog, id) {
			gone++
		}
	}
	if gone > 0 {
		r.mu.Lock()
		r.warn(fmt.Sprintf("%d packs that were there are gone: this run looks up every chunk and stores what is missing", gone))
		r.mu.Unlock()
	}
	r.distrust = !ok && len(r.chain.snapshots) > 0 || gone > 0 || r.damaged.count() > 0
	return nil
}

// Distrusts tells whether the repository may have lost chunks its snapshots
// name. A run then asks Has before it takes a file over from its base.
func (w *Writer) Distrusts() bool { return w.r.distrust }

// damageList names blocks that could not be read.
type damageList struct {
	mu     sync.Mutex // guards blocks
	blocks map[crypto.PackID][]uint32
}

type damageFile struct {
	Repository string              `json:"repository"`
	Packs      map[string][]uint32 `json:"packs"`
	Checksum   uint64              `json:"checksum"`
}

func (f *damageFile) sum() uint64 {
	g := *f
	g.Checksum = 0
	b, err := json.Marshal(&g)
	if err != nil {
		return 0
	}
	s := crypto.Sum256(b)
	return binary.LittleEndian.Uint64(s[:]) >> 11 // exact as a JSON number
}

// readDamage reads the list. No list is an empty one; one that can not be
// read is an error to be shown, and an empty one.
func readDamage(state durable.FS, repo crypto.RepoID) (*damageList, error) {
	d := &damageList{blocks: make(map[crypto.PackID][]uint32)}
	b, err := durable.ReadFile(state, damageName, damageMax)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	var f damageFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.sum() != f.Checksum {
		err = errors.New("its checksum does not match")
	}
	if err != nil {
		return d, fmt.Errorf("%s in the state directory: %v; run a check with --read-data to make it anew", damageName, err)
	}
	if f.Repository != repo.String() {
		return d, nil
	}
	for name, blocks := range f.Packs {
		id, err := crypto.ParsePackID(name)
		if err != nil {
			return d, fmt.Errorf("%s in the state directory: %v", damageName, err)
		}
		d.blocks[id] = blocks
	}
	return d, nil
}

// writeDamage replaces the list with what a full check has found.
func writeDamage(state durable.FS, repo crypto.RepoID, d *damageList) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.blocks) == 0 {
		return durable.Remove(state, damageName)
	}
	f := damageFile{Repository: repo.String(), Packs: make(map[string][]uint32)}
	for id, blocks := range d.blocks {
		f.Packs[id.String()] = blocks
	}
	f.Checksum = f.sum()
	b, err := json.Marshal(&f)
	if err != nil {
		return err
	}
	return durable.ReplaceFile(state, damageName, b)
}

func (d *damageList) count() int {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.blocks)
}

// wholePack stands for all blocks of a pack whose trailer can not be read.
const wholePack = ^uint32(0)

func (d *damageList) add(id crypto.PackID, block uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.blocks[id], block) {
		d.blocks[id] = append(d.blocks[id], block)
	}
}

func (d *damageList) has(id crypto.PackID, block uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.blocks[id]
	return len(b) > 0 && (slices.Contains(b, block) || slices.Contains(b, wholePack))
}

// isDamaged tells whether a check has found a block unreadable: its chunks
// count as not stored, and another copy is read first.
func (r *Repo) isDamaged(pack, block uint32) bool {
	if r.damaged.count() == 0 {
		return false
	}
	return r.damaged.has(r.catalog.info(pack).id, block)
}
