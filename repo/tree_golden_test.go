package repo

import (
	"encoding/hex"
	"fmt"
	"testing"
)

// TestTree_BytesOfFormatV1 holds the format: these bytes and roots never change
// for version 1. The roots are of pages named by plain BLAKE3.
func TestTree_BytesOfFormatV1(t *testing.T) {
	file := &Entry{
		Name: "report.txt", Type: TypeRegular, Mode: 0o4644, UID: 1000, GID: 100, User: "bot", Group: "users",
		Mtime: Time{1_760_000_000, 123456789}, Ctime: Time{-2, 0}, Inode: 777, Device: 2049, Nlink: 2,
		Size: 10000, Sparse: true, Extents: []Extent{{0, 300}, {4096, 5}},
		Content: Content{Inline: []Ref{{treeID(1), 300}, {treeID(2), 5}}, Chunks: 2, Bytes: 305},
		Xattrs:  []Xattr{{"user.a", []byte("1")}},
	}
	const (
		wantFile = "0a7265706f72742e747874" + "0103" + "a413e80764" + "03626f74057573657273" + // name, type, flags, mode, owner
			"80e0bb8e0d959aef3a" + "0300" + "8906" + "8110" + "02" + // times, inode, device, links
			"904e" + "0200ac02d41d05" + "0002" + // size, extents, chunks
			"1a0d12016999e47689dae5744d2b8c1903faf7ca2886a658150083100ef2c8ee" + "ac02" +
			"ea21c7b3c885cf2fb547bb51016c8bbbaca21db264cc9f332769ad8dd895f0a3" + "05" +
			"0106757365722e610131" // xattrs
		wantDir     = "4f20b439892297f2a8b90d08e9641a3fcae0655430c26f81f82d939d3c1ab393"
		wantContent = "e9b3af35d870f81407b47a15d61c4d3d041669ec11760fde081c417c290c8359"
	)
	raw, err := encodeEntry(nil, file)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(raw); got != wantFile {
		t.Errorf("entry: got %s, want %s", got, wantFile)
	}

	m := newMemPages()
	w := newTreeWriter(m)
	model := map[string]*Entry{file.Name: file}
	for i := range 5000 {
		e := plainFile(fmt.Sprintf("%05d", i), uint64(i))
		model[e.Name] = e
	}
	d := writeDir(t, w, model, nil, nil)
	var refs []Ref
	for i := range uint64(5000) {
		refs = append(refs, Ref{treeID(i), uint32(1 + i)})
	}
	c := writeContent(t, w, refs, nil, nil)
	if got := d.Root.String(); got != wantDir || d.Level != 1 {
		t.Errorf("directory: got %s of level %d, want %s of level 1", got, d.Level, wantDir)
	}
	if got := c.Root.String(); got != wantContent || c.Level != 2 {
		t.Errorf("content: got %s of level %d, want %s of level 2", got, c.Level, wantContent)
	}
}
