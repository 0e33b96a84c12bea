package repo

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

var update = flag.Bool("update", false, "write the example of FORMAT.md anew")

// vectorKey reads a sub-key from the vectors of package crypto, whose master
// key is the bytes 00 to 1f.
func vectorKey(t *testing.T, name string) (k crypto.Key) {
	t.Helper()
	b, err := os.ReadFile("../crypto/testdata/good/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^key: ([0-9a-f]{64})$`).FindSubmatch(b)
	if m == nil || !bytes.Contains(b, []byte("master: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")) {
		t.Fatalf("%s: no key of that master key", name)
	}
	hex.Decode(k[:], m[1])
	return k
}

func filled[T ~[16]byte](c byte) (id T) {
	for i := range id {
		id[i] = c
	}
	return id
}

// examplePack is the pack of FORMAT.md and the text that shows it.
func examplePack(t *testing.T) (pack []byte, text string) {
	t.Helper()
	chunk := []byte("Backups are restores.\n")
	packKey, idKey := vectorKey(t, "derive-pack"), vectorKey(t, "derive-id-data")
	ref := Ref{ID: crypto.NewHasher(idKey).Sum(chunk), Len: uint32(len(chunk))}
	h := packHeader{kind: kindData, epoch: 1, repo: filled[crypto.RepoID](0xa0), pack: filled[crypto.PackID](0xb0), writer: filled[writerID](0xc0)}
	header := h.encode()
	sealer := crypto.NewPackSealer(packKey, h.pack)

	var b strings.Builder
	show := func(what string, p []byte) {
		fmt.Fprintf(&b, "%s\n", what)
		for len(p) > 0 {
			n := min(32, len(p))
			fmt.Fprintf(&b, "    %x\n", p[:n])
			p = p[n:]
		}
	}
	pack = append(pack, header[:]...)
	part := func(what string, kind byte, c codec, ordinal uint32, plain []byte) {
		aad := appendAAD(nil, &header, kind, c, ordinal, len(plain), len(plain)+crypto.Overhead)
		sealed := sealer.Seal(nil, plain, aad, kind, ordinal)
		used := bytes.TrimRight(plain, "\x00")
		show(fmt.Sprintf("%s, plaintext of %d bytes, zeros at the end left out", what, len(plain)), used)
		show("its AAD behind the header", aad[headerSize:])
		if len(sealed) > 256 {
			show(fmt.Sprintf("%d  sealed, %d bytes; the first 32 and the last 32", len(pack), len(sealed)), append(bytes.Clone(sealed[:32]), sealed[len(sealed)-32:]...))
		} else {
			show(fmt.Sprintf("%d  sealed, %d bytes", len(pack), len(sealed)), sealed)
		}
		pack = append(pack, sealed...)
	}
	fmt.Fprintf(&b, "sub-key pack\n    %x\nsub-key id/data\n    %x\n", packKey[:], idKey[:])
	show(fmt.Sprintf("id of the chunk %q", chunk), ref.ID[:])
	show("0  header", header[:])
	part("block 0", partBlock, codecStored, 0, chunk)
	part("pad", partPad, codecPad, 1, nil)
	blocks := []blockRec{
		{sealed: ref.Len + crypto.Overhead, plain: ref.Len, reach: ref.Len, codec: codecStored, chunks: 1},
		{sealed: crypto.Overhead, codec: codecPad},
	}
	trailer := encodeTrailer(blocks, nil, appendChunkRec(nil, &ref))
	part("trailer", partTrailer, codecStored, 0, trailer)
	footer := encodeFooter(len(trailer) + crypto.Overhead)
	show(fmt.Sprintf("%d  footer", len(pack)), footer[:])
	pack = append(pack, footer[:]...)
	sum := crypto.Sum256(pack)
	show(fmt.Sprintf("BLAKE3-256 of all %d bytes", len(pack)), sum[:])
	return pack, b.String()
}

func TestFormatDocument_ShowsAPackThatReadersOpen(t *testing.T) {
	pack, text := examplePack(t)
	b, err := os.ReadFile(formatDocument)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- example -->\n", "<!-- /example -->"
	before, rest, ok := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("FORMAT.md has no place for the example")
	}
	block := "```\n" + text + "```\n"
	if *update {
		if err := os.WriteFile(formatDocument, []byte(before+begin+block+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != block {
		t.Errorf("the example of FORMAT.md is not what the code writes; go test ./repo -run FormatDocument -args -update\nwant\n%s", block)
	}
	r := &stranger{
		repo: bytes.Repeat([]byte{0xa0}, 16), epoch: 1, packKey: vectorKey(t, "derive-pack"), packSize: 1 << 20, copies: map[strangeID][]*strangeBlock{},
		ids: map[byte]*crypto.Hasher{1: crypto.NewHasher(vectorKey(t, "derive-id-data"))},
	}
	err = r.addPack(strings.Repeat("b0", 16)+".data", pack)
	if err != nil {
		t.Fatal(err)
	}
	for id := range r.copies {
		got, err := r.chunk(1, id, 17)
		if err != nil || string(got) != "Backups are restores.\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for _, at := range []int{9, 12, 20, 40, 60, 70, len(pack) - 1, len(pack) - 14, len(pack) - 100} {
		bad := bytes.Clone(pack)
		bad[at] ^= 1
		r.copies = map[strangeID][]*strangeBlock{}
		if err := r.addPack(strings.Repeat("b0", 16)+".data", bad); err == nil && at != 70 {
			t.Errorf("byte %d changed: the pack opens", at)
		}
		for id := range r.copies {
			if _, err := r.chunk(1, id, 17); err == nil {
				t.Errorf("byte %d changed: the chunk is read", at)
			}
		}
	}
}
