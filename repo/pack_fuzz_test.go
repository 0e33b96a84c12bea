package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
)

// maxFuzzInput keeps inputs below what the limits of the decoders are for.
const maxFuzzInput = 1 << 20

// trailerOf is a trailer of some blocks of each codec, with the size of its
// pack.
func trailerOf() (plain []byte, packSize int64, sealed int) {
	ids := bytes.Repeat([]byte{7}, 2*idSize)
	var chunks []byte
	for i := range 3 {
		chunks = appendChunkRec(chunks, &Ref{ID: crypto.ID{byte(i)}, Len: 50})
	}
	blocks := []blockRec{
		{sealed: 66, plain: 50, reach: 50, codec: codecStored, chunks: 1},
		{sealed: 40, plain: 50, reach: 50, codec: codecZstd, chunks: 1},
		{sealed: 30, plain: 50, reach: 150, codec: codecDelta, depth: 1, dicts: 2, chunks: 1},
		{sealed: 116, plain: 100, codec: codecPad},
	}
	plain = encodeTrailer(blocks, ids, chunks)
	sealed = len(plain) + crypto.Overhead
	return plain, int64(headerSize + 66 + 40 + 30 + 116 + sealed + footerSize), sealed
}

func FuzzPackTrailer(f *testing.F) {
	plain, size, sealed := trailerOf()
	f.Add(plain[:300], size, sealed)
	f.Add(plain[:trailerHead], int64(0), 0)
	f.Fuzz(func(t *testing.T, p []byte, size int64, sealed int) {
		if len(p) > maxFuzzInput {
			return
		}
		// Padded as trailers are, or else nothing gets past the length.
		p = append(p, make([]byte, (TrailerBucket-len(p)%TrailerBucket)%TrailerBucket)...)
		tr, err := decodeTrailer(p, size, sealed)
		if err != nil {
			return
		}
		if got := encodeTrailer(tr.blocks, tr.dicts, tr.chunks); !bytes.Equal(got, p) {
			t.Error("a trailer that was accepted encodes to other bytes")
		}
		for i := range tr.chunkCount() {
			tr.chunk(uint32(i))
		}
		tr.entries()
	})
}

func FuzzPackHeader(f *testing.F) {
	h := packHeader{kind: kindTree, epoch: 3, repo: crypto.RepoID{1}, pack: crypto.PackID{2}, writer: writerID{3}}
	head, foot := h.encode(), encodeFooter(4112)
	f.Add(head[:], foot[:])
	f.Fuzz(func(t *testing.T, head, foot []byte) {
		if h, err := decodePackHeader(head); err == nil {
			if again := h.encode(); !bytes.Equal(again[:], head[:headerSize]) {
				t.Error("a header that was accepted encodes to other bytes")
			}
		}
		if n, err := decodeFooter(foot); err == nil {
			if again := encodeFooter(n); !bytes.Equal(again[:], foot) {
				t.Error("a footer that was accepted encodes to other bytes")
			}
		}
	})
}

// packFrom reads data as the description of a pack and seals it as a writer
// with the key would: everything behind the seals is the fuzzer's. Per block:
// codec, depth, sizes, dictionary, chunks and payload.
func packFrom(r *Repo, data []byte) (name string, pack []byte) {
	next := func(n int) []byte {
		n = min(n, len(data))
		out := make([]byte, n)
		copy(out, data)
		data = data[n:]
		return out
	}
	number := func() int {
		b := append(next(2), 0, 0)
		return int(binary.LittleEndian.Uint16(b))
	}
	h := packHeader{kind: packKind(1 + number()%2), epoch: 1, repo: r.id, pack: crypto.PackID{0xaa, byte(number())}}
	head := h.encode()
	sealer := crypto.NewPackSealer(r.keys.pack, h.pack)
	pack = append(pack, head[:]...)
	var blocks []blockRec
	var dicts, chunks []byte
	seal := func(part byte, c codec, ordinal uint32, plain []byte) int {
		aad := appendAAD(nil, &head, part, c, ordinal, len(plain), len(plain)+crypto.Overhead)
		before := len(pack)
		pack = sealer.Seal(pack, plain, aad, part, ordinal)
		return len(pack) - before
	}
	known := r.catalog.all(0)
	for len(data) > 8 && len(blocks) < 8 {
		rec := blockRec{codec: codec(number() % 5), depth: uint8(number() % (MaxDepth + 3)), plain: uint32(number()), reach: uint32(number())}
		for range number() % 4 {
			id := crypto.ID(append(next(idSize), make([]byte, idSize)...)[:idSize])
			if e, err := r.reader.pack(context.Background(), known[int(id[0])%len(known)]); err == nil && id[1] < 200 {
				if n := e.val.trailer.chunkCount(); n > 0 {
					id, _ = e.val.trailer.chunk(uint32(int(id[1]) % n))
				}
				r.reader.packs.release(e)
			}
			dicts = append(dicts, id[:]...)
			rec.dicts++
		}
		for range number() % 4 {
			id := crypto.ID(append(next(idSize), make([]byte, idSize)...)[:idSize])
			chunks = appendChunkRec(chunks, &Ref{ID: id, Len: uint32(number())})
			rec.chunks++
		}
		payload := next(number() % 2000)
		if number()%2 == 0 {
			rec.plain, rec.reach = uint32(len(payload)), uint32(len(payload))
		}
		rec.sealed = uint32(seal(partBlock, rec.codec, uint32(len(blocks)), payload))
		blocks = append(blocks, rec)
	}
	pad := make([]byte, 50)
	blocks = append(blocks, blockRec{codec: codecPad, plain: 50, sealed: uint32(seal(partPad, codecPad, uint32(len(blocks)), pad))})
	n := seal(partTrailer, codecStored, 0, encodeTrailer(blocks, dicts, chunks))
	foot := encodeFooter(n)
	return packName(h.pack, h.kind), append(pack, foot[:]...)
}

func FuzzPackBehindItsSeals(f *testing.F) {
	k := buildEveryKind(f)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(rng.Uint32() % 7)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzInput {
			return
		}
		r, err := Open(t.Context(), &layer{base: k.objects}, []crypto.Credential{testKey}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		name, pack := packFrom(r, data)
		r.Close()
		r, err = Open(t.Context(), &layer{k.objects, map[string][]byte{name: pack}}, []crypto.Credential{testKey}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
		if err != nil {
			t.Fatal(err)
		}
		// A strange pack beside them does not hurt the files.
		if len(rep.DamagedFiles) > 0 {
			t.Errorf("%v", rep.DamagedFiles)
		}
	})
}

func FuzzBlockDecode(f *testing.F) {
	enc, err := newBlockEncoder(LevelFast)
	if err != nil {
		f.Fatal(err)
	}
	text := textRows(rand.New(rand.NewPCG(1, 2)), 30)
	frame, _, err := enc.plain(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Clone(frame), []byte(nil), len(text))
	edited := slices.Clone(text)
	edited[9] = '#'
	if frame, _, err = against(enc, edited, text); err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Clone(frame), text, len(text))
	dec, err := newBlockDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame, dict []byte, size int) {
		if size < 0 || size > MaxChunkSize || len(dict) > MaxDictionarySize {
			return
		}
		if len(dict) == 0 {
			dict = nil
		}
		got, err := dec.decode(nil, frame, dict, size)
		if err == nil && len(got) != size {
			t.Errorf("got %d bytes, want %d", len(got), size)
		}
	})
}

func FuzzBlockRoundTrip(f *testing.F) {
	f.Add([]byte("some text, some text, some text"), []byte("some text, some more text"))
	enc, err := newBlockEncoder(LevelDefault)
	if err != nil {
		f.Fatal(err)
	}
	dec, err := newBlockDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, p, dict []byte) {
		if len(p) == 0 || len(p) > BlockSize || len(dict) == 0 || len(dict) > MaxDictionarySize {
			return
		}
		// It decodes and compares what it wrote.
		if _, _, err := enc.plainAt(LevelFast, p); err != nil {
			t.Fatal(err)
		}
		payload, c, err := against(enc, p, dict)
		if err != nil {
			t.Fatal(err)
		}
		if c != codecDelta {
			dict = nil
		}
		got := payload
		if c != codecStored {
			if got, err = dec.decode(nil, payload, dict, len(p)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, p) {
			t.Error("a block decodes to other bytes")
		}
	})
}

// stateWith is a state directory with one file.
func stateWith(t testing.TB, name string, b []byte) durable.FS {
	t.Helper()
	state := crashfs.New()
	if err := durable.WriteFile(state, name, b); err != nil {
		t.Fatal(err)
	}
	return state
}

func FuzzPackList(f *testing.F) {
	repo := crypto.RepoID{1}
	head := append([]byte(packListMagic), repo[:]...)
	f.Add(head, true)
	f.Add(append(head[:len(head):len(head)], bytes.Repeat([]byte{5}, 2*packListItem)...), true)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign {
			sum := crypto.Sum256(b)
			b = append(b, sum[:]...)
		}
		ids, ok := readPackList(stateWith(t, packListName, b), repo)
		if !ok {
			return
		}
		state := crashfs.New()
		if err := writePackList(state, repo, ids); err != nil {
			t.Fatal(err)
		}
		if got, err := durable.ReadFile(state, packListName, packListMax); err != nil || !bytes.Equal(got, b) {
			t.Errorf("a list that was accepted encodes to other bytes (%v)", err)
		}
	})
}

func FuzzDamageList(f *testing.F) {
	repo := crypto.RepoID{1}
	f.Add("aa000000000000000000000000000000", uint32(3), []byte(nil))
	f.Add("zz", uint32(3), []byte(`{"repository":"","packs":{},"checksum":1}`))
	f.Fuzz(func(t *testing.T, pack string, block uint32, raw []byte) {
		file := damageFile{Repository: repo.String(), Packs: map[string][]uint32{pack: {block}}}
		file.Checksum = file.sum()
		b, err := json.Marshal(&file)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, raw} {
			d, err := readDamage(stateWith(t, damageName, b), repo)
			if d == nil {
				t.Fatal("no list at all")
			}
			if err != nil || d.count() == 0 {
				continue
			}
			state := crashfs.New()
			if err := writeDamage(state, repo, d); err != nil {
				t.Fatal(err)
			}
			again, err := readDamage(state, repo)
			if err != nil || again.count() != d.count() {
				t.Errorf("a list that was accepted does not read back (%v)", err)
			}
		}
	})
}

func FuzzTomb(f *testing.F) {
	f.Add([]byte(`{"packs":["aa000000000000000000000000000000"]}`))
	f.Add([]byte(`{"packs":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		packs, err := decodeTomb(b)
		if err != nil {
			return
		}
		body := tombBody{}
		for _, p := range packs {
			body.Packs = append(body.Packs, p.String())
		}
		again, err := json.Marshal(&body)
		if err != nil {
			t.Fatal(err)
		}
		if len(packs) == 0 {
			return
		}
		got, err := decodeTomb(again)
		if err != nil || !slices.Equal(got, packs) {
			t.Errorf("a tomb that was accepted does not read back (%v)", err)
		}
	})
}
