package repo

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/generalbots/backupd/crypto"
)

// stranger reads repositories and knows nothing but FORMAT.md: no name of this
// package's product files stands below, a test sees to it. Of package crypto it
// uses BLAKE3 and AES-256-GCM as that page describes them. It is simple, not
// fast: all packs are in memory.
type stranger struct {
	repo     []byte
	epoch    uint32
	master   *crypto.MasterKey
	packKey  crypto.Key
	packSize int
	ids      map[byte]*crypto.Hasher // by kind of pack
	copies   map[strangeID][]*strangeBlock
	deltas   int // blocks decoded with a dictionary
}

type strangeID [32]byte

type strangeBlock struct {
	header, sealed     []byte
	sealer             *crypto.PackSealer
	kind, codec, depth byte
	ordinal, plain     uint32
	dict, chunks       []strangeID
	lengths            []uint32
	decoded            []byte // once it was
}

type strangePart struct {
	Failed bool
	Root   []byte
}

// strangeBody is what this reader wants of a manifest or record.
type strangeBody struct {
	Prev     string
	Snapshot *struct {
		ID    string
		Parts []strangePart
	}
	Forget, Undelete *struct {
		Writer string
		Seq    uint64
	}
}

var le = binary.LittleEndian

// openStranger opens the repository in dir with the 32 bytes of a key file, and returns the parts of
// all live snapshots by their ids.
func openStranger(dir fs.FS, secret []byte) (*stranger, map[string][]strangePart, error) {
	r := &stranger{copies: map[strangeID][]*strangeBlock{}, ids: map[byte]*crypto.Hasher{}}
	text, err := fs.ReadFile(dir, "format")
	if err != nil {
		return nil, nil, err
	}
	lines := strings.Split(string(text), "\n")
	sum := crypto.Sum256(text[:max(0, bytes.LastIndex(text, []byte("checksum ")))])
	if len(lines) != 5 || lines[0] != "backupd repository" || lines[1] != "version 1" || lines[3] != fmt.Sprintf("checksum %x", sum[:8]) {
		return nil, nil, errors.New("format file")
	}
	if r.repo, err = hex.DecodeString(strings.TrimPrefix(lines[2], "id ")); err != nil {
		return nil, nil, err
	}
	slots, err := fs.Glob(dir, "keys/*")
	for _, name := range slots {
		b, _ := fs.ReadFile(dir, name)
		if err = r.openSlot(path.Base(name), b, secret); err == nil {
			break
		}
	}
	if r.master == nil {
		return nil, nil, fmt.Errorf("no slot: %v", err)
	}
	r.packKey = r.master.Derive("pack")
	r.ids[1], r.ids[2] = crypto.NewHasher(r.master.Derive("id/data")), crypto.NewHasher(r.master.Derive("id/tree"))
	var config struct {
		PackSize int    `json:"pack_size"`
		KeyEpoch uint32 `json:"key_epoch"`
	}
	if _, err := r.openSealed(dir, "config", "config", 1, &config); err != nil || config.KeyEpoch != r.epoch {
		return nil, nil, fmt.Errorf("config: %v", err)
	}
	r.packSize = config.PackSize
	packs, _ := fs.Glob(dir, "packs/??/*")
	for _, name := range packs {
		b, err := fs.ReadFile(dir, name)
		if err == nil {
			err = r.addPack(path.Base(name), b)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %v", name, err)
		}
	}
	live, err := r.snapshots(dir)
	return r, live, err
}

func (r *stranger) openSlot(name string, b, secret []byte) error {
	be := binary.BigEndian
	sum := crypto.Sum256(b[:min(len(b), 228)])
	if len(b) != 244 || string(b[:8]) != "bkpdslot" || !bytes.Equal(sum[:16], b[228:]) || b[8] != 1 || b[9] != 2 ||
		!bytes.Equal(b[36:52], r.repo) || fmt.Sprintf("%08x", be.Uint32(b[24:])) != name {
		return errors.New("invalid slot, or not for a key file")
	}
	keys, err := hkdf.Key(sha256.New, secret, b[116:148], "backupd 2026 v1 slot/2", 64)
	if err != nil || !bytes.Equal(keys[32:], b[148:180]) {
		return errors.New("wrong key")
	}
	block, _ := aes.NewCipher(keys[:32])
	gcm, _ := cipher.NewGCM(block)
	if _, err := gcm.Open(nil, make([]byte, 12), b[180:228], b[:180]); err != nil {
		return err
	}
	// That was the master key. This gives it to package crypto, which derives from it.
	c, err := crypto.KeyFileCredential(secret)
	if err == nil {
		r.master, err = crypto.OpenSlot(b, crypto.RepoID(r.repo), c)
	}
	r.epoch = be.Uint32(b[20:])
	return err
}

// openSealed returns the header of a sealed file and reads its JSON.
func (r *stranger) openSealed(dir fs.FS, name string, purpose crypto.Purpose, kind byte, v any) ([]byte, error) {
	b, err := fs.ReadFile(dir, name)
	if err != nil {
		return nil, err
	}
	if len(b) < 624 || string(b[:8]) != "bkupdsf1" || le.Uint16(b[8:]) != 1 || b[10] != kind || b[11] != 1 || le.Uint32(b[12:]) != r.epoch ||
		!bytes.Equal(b[16:32], r.repo) || le.Uint64(b[56:]) != 0 || (len(b)-112)%512 != 0 {
		return nil, errors.New("sealed file header")
	}
	plain, err := crypto.OpenFile(r.master.Derive(purpose), append(bytes.Clone(b[:64]), name...), b[64:])
	if err != nil {
		return nil, err
	}
	return b[:64], json.Unmarshal(plain, v)
}

// snapshots reads the chain of every writer.
func (r *stranger) snapshots(dir fs.FS) (map[string][]strangePart, error) {
	names, err := fs.Glob(dir, "snapshots/*") // sorted: by writer, then number
	bodies, hashes := map[string]*strangeBody{}, map[string]string{}
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil || len(b) < 64 {
			return nil, fmt.Errorf("%s: %v", name, err)
		}
		purpose := crypto.Purpose("record")
		if b[10] == 2 {
			purpose = "manifest"
		}
		body := new(strangeBody)
		h, err := r.openSealed(dir, name, purpose, b[10], body)
		if err != nil || strangePlace(hex.EncodeToString(h[32:48]), le.Uint64(h[48:])) != name {
			return nil, fmt.Errorf("%s: %v", name, err)
		}
		sum := crypto.Sum256(b)
		bodies[name], hashes[name] = body, hex.EncodeToString(sum[:])
		if before := strangePlace(hex.EncodeToString(h[32:48]), le.Uint64(h[48:])-1); hashes[before] != "" && hashes[before] != body.Prev {
			return nil, fmt.Errorf("%s: broken link", name)
		}
	}
	takenBack, forgotten := map[string]bool{}, map[string]bool{}
	for _, b := range bodies {
		if b.Undelete != nil {
			takenBack[strangePlace(b.Undelete.Writer, b.Undelete.Seq)] = true
		}
	}
	for name, b := range bodies {
		if b.Forget != nil && !takenBack[name] {
			forgotten[strangePlace(b.Forget.Writer, b.Forget.Seq)] = true
		}
	}
	live := map[string][]strangePart{}
	for _, name := range names {
		if m := bodies[name].Snapshot; m != nil && !forgotten[name] {
			live[m.ID] = m.Parts
		}
	}
	return live, err
}

func strangePlace(writer string, seq uint64) string {
	return fmt.Sprintf("snapshots/%s-%010d", writer, seq)
}

// addPack reads the trailer of a pack and remembers where its chunks lie.
func (r *stranger) addPack(name string, b []byte) error {
	id, ext, _ := strings.Cut(name, ".")
	kind := map[string]byte{"data": 1, "tree": 2}[ext]
	if len(b) < 64+16+16+16 || len(b) > r.packSize || string(b[:8]) != "bkupdpk1" || le.Uint16(b[8:]) != 1 || b[10] != kind || b[11] != 1 ||
		le.Uint32(b[12:]) != r.epoch || !bytes.Equal(b[16:32], r.repo) || hex.EncodeToString(b[32:48]) != id {
		return errors.New("pack header")
	}
	foot := b[len(b)-16:]
	n := int(le.Uint32(foot))
	if le.Uint16(foot[4:]) != 1 || le.Uint16(foot[6:]) != 0 || string(foot[8:]) != "bkupdend" || n%4096 != 16 || n < 4096 || n > len(b)-80 {
		return errors.New("pack footer")
	}
	sealer := crypto.NewPackSealer(r.packKey, crypto.PackID(b[32:48]))
	t, err := strangeOpen(sealer, b[:64], b[len(b)-16-n:len(b)-16], 3, 0, 0)
	if err != nil {
		return err
	}
	blocks, dicts, chunks := int(le.Uint32(t)), int(le.Uint32(t[4:])), int(le.Uint32(t[8:]))
	if used := 16 + 20*blocks + 32*dicts + 36*chunks; blocks < 1 || blocks > 65535 || used > len(t) || len(t)-used >= 4096 || le.Uint32(t[12:]) != 0 {
		return errors.New("trailer counts")
	}
	dict, chunk, at := t[16+20*blocks:], t[16+20*blocks+32*dicts:], 64
	for i := range blocks {
		rec := t[16+20*i:]
		sealed, plain, nd, nc := int(le.Uint32(rec)), le.Uint32(rec[4:]), int(le.Uint16(rec[14:])), int(le.Uint16(rec[16:]))
		bl := &strangeBlock{header: b[:64], sealer: sealer, kind: kind, codec: rec[12], depth: rec[13], ordinal: uint32(i), plain: plain}
		if dicts, chunks = dicts-nd, chunks-nc; dicts < 0 || chunks < 0 || sealed < 16 || sealed > len(b)-16-n-at || (bl.codec == 3) != (i == blocks-1) ||
			(bl.codec == 2) != (nd > 0) || (bl.codec == 2) != (bl.depth > 0) || bl.depth > 16 || nd > 1024 || nc > 4096 || le.Uint16(rec[18:]) != 0 {
			return errors.New("block record")
		}
		bl.sealed, at = b[at:at+sealed], at+sealed
		for ; nd > 0; nd, dict = nd-1, dict[32:] {
			bl.dict = append(bl.dict, strangeID(dict[:32]))
		}
		for ; nc > 0; nc, chunk = nc-1, chunk[36:] {
			bl.chunks, bl.lengths = append(bl.chunks, strangeID(chunk[:32])), append(bl.lengths, le.Uint32(chunk[32:]))
			plain -= le.Uint32(chunk[32:])
		}
		if bl.codec != 3 && (plain != 0 || bl.plain == 0 || bl.plain > 8<<20 || bl.plain > 256<<10 && len(bl.chunks) != 1) {
			return errors.New("block length")
		}
		for _, id := range bl.chunks {
			r.copies[id] = append(r.copies[id], bl)
		}
	}
	if at != len(b)-16-n || dicts != 0 || chunks != 0 {
		return errors.New("the blocks do not fill the pack")
	}
	return nil
}

func strangeOpen(s *crypto.PackSealer, header, sealed []byte, part, codec byte, ordinal uint32) ([]byte, error) {
	aad := append(bytes.Clone(header), part, codec, 0, 0)
	aad = le.AppendUint32(aad, ordinal)
	aad = le.AppendUint32(aad, uint32(len(sealed)-16))
	aad = le.AppendUint32(aad, uint32(len(sealed)))
	return s.Open(nil, sealed, aad, part, ordinal)
}

// chunk returns the bytes of a chunk from the first good copy of a depth below that.
func (r *stranger) chunk(kind byte, id strangeID, below byte) ([]byte, error) {
	copies := slices.SortedStableFunc(slices.Values(r.copies[id]), func(a, b *strangeBlock) int { return cmp.Compare(a.depth, b.depth) })
	err := fmt.Errorf("chunk %x: no copy", id[:6])
	for _, b := range copies {
		if b.depth >= below || b.kind != kind {
			continue
		}
		plain, e := r.decode(b)
		if err = e; err != nil {
			continue
		}
		for i, n := range b.lengths {
			if b.chunks[i] == id {
				if strangeID(r.ids[kind].Sum(plain[:n])) != id {
					return nil, fmt.Errorf("chunk %x: other bytes", id[:6])
				}
				return plain[:n], nil
			}
			plain = plain[n:]
		}
	}
	return nil, err
}

func (r *stranger) decode(b *strangeBlock) ([]byte, error) {
	if b.decoded != nil {
		return b.decoded, nil
	}
	p, err := strangeOpen(b.sealer, b.header, b.sealed, 1, b.codec, b.ordinal)
	if err == nil && b.codec > 0 {
		options := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8 << 20)}
		if b.codec == 2 {
			var dict []byte
			for _, id := range b.dict {
				c, err := r.chunk(b.kind, id, b.depth)
				if err != nil {
					return nil, err
				}
				dict = append(dict, c...)
			}
			r.deltas++
			options = append(options, zstd.WithDecoderDictRaw(0, dict))
		}
		d, e := zstd.NewReader(nil, options...)
		if e != nil {
			return nil, e
		}
		defer d.Close()
		p, err = d.DecodeAll(p, make([]byte, 0, b.plain))
	}
	if err == nil && len(p) != int(b.plain) {
		err = errors.New("block of another length")
	}
	if err == nil {
		b.decoded = p
	}
	return p, err
}
