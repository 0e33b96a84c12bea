package repo

import (
	"context"
	"errors"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// maxTombPacks bounds the packs one tomb names.
const maxTombPacks = 1 << 20

// decodeTomb reads the plaintext of a tomb.
func decodeTomb(plain []byte) (packs []crypto.PackID, err error) {
	err = readJSON(plain, func(r *jsonReader) {
		r.object(func(key []byte) bool {
			if string(key) != "packs" {
				return false
			}
			r.array(maxTombPacks, func() {
				id, err := crypto.ParsePackID(r.string())
				if err != nil {
					r.fail("%v", err)
				}
				packs = append(packs, id)
			})
			return true
		})
	})
	return packs, err
}

// readTomb reads a tomb and proves it.
func readTomb(ctx context.Context, st store.Store, keys *fileKeys, name string) ([]crypto.PackID, error) {
	b, err := readObject(ctx, st, name, MaxSealedFileSize, nil)
	if err != nil {
		return nil, err
	}
	_, plain, err := keys.open(name, b, sealedTomb)
	if err != nil {
		return nil, err
	}
	packs, err := decodeTomb(plain)
	if err != nil {
		return nil, damagedFile(name, "%v", err)
	}
	return packs, nil
}

// small looks at the key slots and at what a gc has left: the next gc decides
// anew, so a tomb is no fault, but a damaged one is.
func (c *checker) small(ctx context.Context) error {
	slots, err := listSlots(ctx, c.r.store, c.r.id)
	if err != nil {
		return err
	}
	for _, s := range slots {
		if s.err != nil {
			c.find(s.name, s.err.Error())
		}
	}
	tombs, err := c.r.store.List(ctx, tombDir)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	for _, in := range tombs {
		if _, err := readTomb(ctx, c.r.store, c.r.files, in.Name); err != nil && !errors.Is(err, store.ErrNotExist) {
			c.find(in.Name, err.Error())
		}
	}
	return nil
}
