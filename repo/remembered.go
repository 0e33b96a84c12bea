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

// packListMagic begins the list; it changes with what follows.
const (
	packListMagic = "bkpdpks2"
	packListHead  = len(packListMagic) + len(crypto.RepoID{})
	packListItem  = len(crypto.PackID{}) + 8
	packListSum   = 32
)

// writePackList notes packs: the magic, the repository id, for each pack its
// id and size, a BLAKE3 checksum.
func writePackList(state durable.FS, repo crypto.RepoID, packs []packInfo) error {
	b := make([]byte, 0, packListHead+packListItem*len(packs)+packListSum)
	b = append(b, packListMagic...)
	b = append(b, repo[:]...)
	for i := range packs {
		b = append(b, packs[i].id[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(packs[i].size))
	}
	sum := crypto.Sum256(b)
	return durable.ReplaceFile(state, packListName, append(b, sum[:]...))
}

// readPackList returns the packs that were there, their kinds left out, or ok
// false when that is not known.
func readPackList(state durable.FS, repo crypto.RepoID) (packs []packInfo, ok bool) {
	b, err := durable.ReadFile(state, packListName, packListMax)
	if err != nil || len(b) < packListHead+packListSum || (len(b)-packListHead-packListSum)%packListItem != 0 {
		return nil, false
	}
	body := b[:len(b)-packListSum]
	if crypto.Sum256(body) != [packListSum]byte(b[len(body):]) || string(body[:len(packListMagic)]) != packListMagic ||
		crypto.RepoID(body[len(packListMagic):packListHead]) != repo {
		return nil, false
	}
	for body = body[packListHead:]; len(body) > 0; body = body[packListItem:] {
		packs = append(packs, packInfo{id: crypto.PackID(body[:16]), size: int64(binary.LittleEndian.Uint64(body[16:]))})
	}
	return packs, true
}

// rememberPacks notes the packs there are but for those in without, which are
// about to be deleted, and those that are missed. Only packs that gc deletes
// may leave the list, and missed ones once a check finds that no snapshot
// needs them; else the loss would be forgotten by whoever writes next.
func (r *Repo) rememberPacks(without []uint32) error {
	if r.state == nil {
		return nil
	}
	goes := make(map[uint32]bool, len(without))
	for _, n := range without {
		goes[n] = true
	}
	packs := append([]packInfo(nil), r.gone...)
	for _, n := range r.catalog.all(0) {
		if !goes[n] {
			packs = append(packs, r.catalog.info(n))
		}
	}
	return writePackList(r.state, r.id, packs)
}

// forgetPacks is rememberPacks before packs are deleted. Where there is no
// space for the new list the old one must go, or the packs would be missed: the
// next run then finds no list, and asks for every chunk. With packs missed
// already there has to be a list.
func (r *Repo) forgetPacks(packs []uint32) error {
	err := r.rememberPacks(packs)
	if !noSpace(err) || len(r.gone) > 0 {
		return err
	}
	r.notRemembered(err)
	return durable.Remove(r.state, packListName)
}

// findGone compares the packs with those that were there, and decides
// whether a run may take files over from its base without asking whether
// their chunks are still there.
func (r *Repo) findGone() {
	r.gone, r.distrust = nil, false
	if r.state == nil {
		// With a state directory that could not be made nothing is known.
		r.distrust = r.options.StateDir != "" && len(r.chain.snapshots) > 0
		return
	}
	was, ok := readPackList(r.state, r.id)
	r.gone = r.missing(was)
	if len(r.gone) > 0 {
		r.mu.Lock()
		r.warn(fmt.Sprintf("%d packs that were there are gone or have another size: runs look up every chunk and store what is missing, until a check finds nothing missing", len(r.gone)))
		r.mu.Unlock()
	}
	r.distrust = !ok && len(r.chain.snapshots) > 0 || len(r.gone) > 0 || r.damaged.Load().count() > 0 ||
		r.head.behind(r.chain, r.writer) // what that run stored is not in the list
}

// missing tells which of the packs that were there can not be whole any more.
func (r *Repo) missing(was []packInfo) (gone []packInfo) {
	for _, p := range was {
		if n, there := r.catalog.lookup(p.id); !there || r.catalog.info(n).size != p.size {
			gone = append(gone, p)
		}
	}
	return gone
}

// forgiveMissing takes packs off the list that are gone and that, as a check
// has found, nothing needs.
func (r *Repo) forgiveMissing() error {
	was, ok := readPackList(r.state, r.id)
	if !ok || len(r.missing(was)) == 0 {
		return nil
	}
	r.gone = nil
	return r.rememberPacks(nil)
}

// Distrusts tells whether the repository may have lost chunks its snapshots
// name. A run then asks Has before it takes a file over from its base.
func (w *Writer) Distrusts() bool { return w.r.distrust }

// Remembers tells whether this host noted, when s was made, which packs there were. A loss of what another one stored, or
// this one with a state directory that it has no more, would not show if it came before this one saw it.
func (w *Writer) Remembers(s *Snapshot) bool {
	return w.r.options.StateDir == "" && w.r.state == nil || s.at.writer == w.r.writer
}

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

// merge adds what another list has, which may be nil.
func (d *damageList) merge(old *damageList) {
	if old == nil {
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	for id, blocks := range old.blocks {
		for _, b := range blocks {
			d.add(id, b)
		}
	}
}

func (d *damageList) has(id crypto.PackID, block uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.blocks[id]
	return len(b) > 0 && (slices.Contains(b, block) || slices.Contains(b, wholePack))
}

// knowDamage takes in what a check has found. What is in memory of such blocks is
// dropped: a run would build on it what nobody can read any more.
func (r *Repo) knowDamage(d *damageList) {
	r.damaged.Store(d)
	if d.count() > 0 {
		r.reader.close()
	} else {
		r.reader.packsChanged()
	}
}

// isDamaged tells whether a check has found a block unreadable: its chunks
// count as not stored, and another copy is read first.
func (r *Repo) isDamaged(pack, block uint32) bool {
	d := r.damaged.Load()
	if d.count() == 0 {
		return false
	}
	return d.has(r.catalog.info(pack).id, block)
}
