package repo

import "github.com/generalbots/backupd/crypto"

// IsChunk reports whether p is the data chunk of that id. A restore that reads
// again what it wrote compares with it. Safe for concurrent use.
func (rd *Reader) IsChunk(id crypto.ID, p []byte) bool {
	h := rd.hasher(kindData)
	got := h.Sum(p)
	rd.hashers[kindData-1].Put(h)
	return got == id
}
