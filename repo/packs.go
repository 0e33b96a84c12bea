package repo

import (
	"context"
	"fmt"
	"sync"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// packInfo is a pack as the store lists it.
type packInfo struct {
	id   crypto.PackID
	kind packKind
	size int64
}

// packKey is what a pack's name says. An id is of one kind only, but a file
// can be copied: the copy then is a pack that can not be read, beside the one
// it was made of.
type packKey struct {
	id   crypto.PackID
	kind packKind
}

func (p *packInfo) key() packKey { return packKey{p.id, p.kind} }

// catalog numbers the packs that are in the store, so that tables can name a
// pack by four bytes. Numbers are of this process only and are not used again.
type catalog struct {
	mu     sync.RWMutex // guards all below
	packs  []packInfo
	number map[packKey]uint32 // of packs that are there
	odd    []string           // names below packs/ that no pack has
}

// listPacks reads the catalog. A listing that fails is an error: it must
// never look like an empty repository.
func listPacks(ctx context.Context, st store.Store) (*catalog, error) {
	infos, err := st.List(ctx, "packs")
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	c := &catalog{number: make(map[packKey]uint32, len(infos))}
	for _, in := range infos {
		id, kind, ok := parsePackName(in.Name)
		if !ok {
			c.odd = append(c.odd, in.Name)
			continue
		}
		c.add(packInfo{id: id, kind: kind, size: in.Size})
	}
	return c, nil
}

// add enters packs that are not there yet, and returns the number of the last.
func (c *catalog) add(packs ...packInfo) (n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range packs {
		var ok bool
		if n, ok = c.number[p.key()]; ok {
			continue
		}
		n = uint32(len(c.packs))
		c.packs = append(c.packs, p)
		c.number[p.key()] = n
	}
	return n
}

// follow forgets packs that a newer listing has not.
func (c *catalog) follow(now *catalog) {
	for _, n := range c.all(0) {
		p := c.info(n)
		if there, ok := now.at(p.key()); !ok || now.info(there).size != p.size {
			c.remove(n)
		}
	}
	c.mu.Lock()
	c.odd = now.odd
	c.mu.Unlock()
}

// remove forgets packs; their numbers stay taken.
func (c *catalog) remove(numbers ...uint32) {
	c.mu.Lock()
	for _, n := range numbers {
		delete(c.number, c.packs[n].key())
	}
	c.mu.Unlock()
}

func (c *catalog) at(key packKey) (uint32, bool) {
	c.mu.RLock()
	n, ok := c.number[key]
	c.mu.RUnlock()
	return n, ok
}

// lookup finds a pack of either kind by its id.
func (c *catalog) lookup(id crypto.PackID) (uint32, bool) {
	if n, ok := c.at(packKey{id, kindData}); ok {
		return n, true
	}
	return c.at(packKey{id, kindTree})
}

// info returns the pack of a number, whether or not it is still there.
func (c *catalog) info(n uint32) packInfo {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.packs[n]
}

// alive returns the pack of a number unless it was removed.
func (c *catalog) alive(n uint32) (packInfo, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if int(n) >= len(c.packs) {
		return packInfo{}, false
	}
	p := c.packs[n]
	m, ok := c.number[p.key()]
	return p, ok && m == n
}

// all lists the numbers of the packs of one kind, or of both for kind 0, in
// the order of the listing.
func (c *catalog) all(kind packKind) []uint32 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]uint32, 0, len(c.number))
	for n, p := range c.packs {
		if m, ok := c.number[p.key()]; ok && int(m) == n && (kind == 0 || p.kind == kind) {
			out = append(out, uint32(n))
		}
	}
	return out
}

// pack is an open pack: its table and what is needed to read its blocks.
type pack struct {
	number  uint32
	trailer *trailer
	header  [headerSize]byte
	sealer  *crypto.PackSealer
	file    openPackFile
}

// openPackFile hands out the pack's file, which is open only now and then: many
// tables fit in memory, fewer descriptors in a process. The caller releases it.
type openPackFile func() (file store.Object, release func(), err error)

// openPackFile returns what hands out the file of a pack.
func (rd *Reader) openPackFile(ctx context.Context, number uint32, info packInfo) openPackFile {
	ctx = context.WithoutCancel(ctx)
	return func() (store.Object, func(), error) {
		e, err := rd.files.get(number, func() (store.Object, int64, error) {
			o, err := rd.repo.store.Open(ctx, packName(info.id, info.kind))
			if err != nil {
				return nil, 0, err
			}
			if o.Size() != info.size {
				o.Close()
				return nil, 0, fmt.Errorf("%w: its size changed from %d to %d bytes", ErrDamaged, info.size, o.Size())
			}
			if info.kind == kindData {
				store.Passing(o)
			}
			return o, 1, nil
		})
		if err != nil {
			return nil, nil, err
		}
		return e.val, func() { rd.files.release(e) }, nil
	}
}

// readPack reads and proves header, footer and trailer of a pack.
func readPack(file openPackFile, key crypto.Key, repo crypto.RepoID, maxSize int64, number uint32, info packInfo) (_ *pack, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pack %s: %w", info.id, err)
		}
	}()
	if info.size < headerSize+footerSize+2*crypto.Overhead || info.size > maxSize {
		return nil, fmt.Errorf("%w: it has %d bytes, a pack has at most %d", ErrDamaged, info.size, maxSize)
	}
	obj, release, err := file()
	if err != nil {
		return nil, err
	}
	defer release()
	p := &pack{number: number, file: file, sealer: crypto.NewPackSealer(key, info.id)}
	var foot [footerSize]byte
	if _, err := obj.ReadAt(p.header[:], 0); err != nil {
		return nil, err
	}
	if _, err := obj.ReadAt(foot[:], info.size-footerSize); err != nil {
		return nil, err
	}
	h, err := decodePackHeader(p.header[:])
	if err != nil {
		return nil, err
	}
	if h.repo != repo || h.pack != info.id || h.kind != info.kind {
		return nil, fmt.Errorf("%w: its header belongs to pack %s of repository %s", ErrDamaged, h.pack, h.repo)
	}
	n, err := decodeFooter(foot[:])
	if err != nil {
		return nil, err
	}
	if n < TrailerBucket+crypto.Overhead || int64(n) > info.size-headerSize-footerSize {
		return nil, fmt.Errorf("%w: trailer of %d bytes", ErrDamaged, n)
	}
	sealed := make([]byte, n)
	if _, err := obj.ReadAt(sealed, info.size-footerSize-int64(n)); err != nil {
		return nil, err
	}
	var aadBuf [aadSize]byte
	aad := appendAAD(aadBuf[:0], &p.header, partTrailer, codecStored, 0, n-crypto.Overhead, n)
	plain, err := p.sealer.Open(sealed[:0], sealed, aad, partTrailer, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: trailer: %v", ErrDamaged, err)
	}
	if p.trailer, err = decodeTrailer(plain, info.size, n); err != nil {
		return nil, err
	}
	p.trailer.header = h
	return p, nil
}

func (p *pack) memory() int64 { return p.trailer.memory() + 1024 }

// payload reads and opens one block without decoding it. The result lies in
// buf if that is large enough.
func (p *pack) payload(block uint32, buf []byte) ([]byte, error) {
	r := &p.trailer.blocks[block]
	part := byte(partBlock)
	if r.codec == codecPad {
		part = partPad
	}
	if cap(buf) < int(r.sealed) {
		buf = make([]byte, r.sealed)
	}
	buf = buf[:r.sealed]
	file, release, err := p.file()
	if err == nil {
		_, err = file.ReadAt(buf, int64(r.offset))
		release()
	}
	if err != nil {
		return nil, fmt.Errorf("pack %s block %d: %w", p.trailer.header.pack, block, err)
	}
	var aadBuf [aadSize]byte
	// A block's AAD has the length of what was sealed, the payload; the
	// decoded length stands in the trailer, which is sealed itself.
	aad := appendAAD(aadBuf[:0], &p.header, part, r.codec, block, int(r.sealed)-crypto.Overhead, int(r.sealed))
	out, err := p.sealer.Open(buf[:0], buf, aad, part, block)
	if err != nil {
		return nil, fmt.Errorf("pack %s block %d: %w: %v", p.trailer.header.pack, block, ErrDamaged, err)
	}
	return out, nil
}
