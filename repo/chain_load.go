package repo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/pace"
	"github.com/generalbots/backupd/internal/store"
)

// snapshotDir holds manifests and records:
// snapshotDir/<writer, 32 hexadecimal digits>-<number, 10 decimal digits>.
const snapshotDir = "snapshots"

// maxSeq bounds the files of one writer, so that names sort by number.
const maxSeq = 9_999_999_999

// loadAttempts is how often a listing is made again because gc removed files
// between listing and reading.
const loadAttempts = 5

// parsePlace reads the name of a file of the chain.
func parsePlace(name string) (place, bool) {
	base, ok := strings.CutPrefix(name, snapshotDir+"/")
	w, digits, hasSeq := strings.Cut(base, "-")
	id, err := crypto.ParseRepoID(w)
	seq, seqErr := strconv.ParseUint(digits, 10, 64)
	at := place{writerID(id), seq}
	if !ok || !hasSeq || err != nil || seqErr != nil || id.IsZero() || seq == 0 || seq > maxSeq || at.name() != name {
		return place{}, false
	}
	return at, true
}

// loadChain reads all manifests and records. What is wrong with single files
// is in the chain's problems; a listing that fails is an error, so that no
// snapshot is ever overlooked. Manifests come without their Problems, which
// readSnapshot brings.
func loadChain(ctx context.Context, st store.Store, keys *fileKeys) (*chain, error) {
	for range loadAttempts {
		list, err := st.List(ctx, snapshotDir)
		if err != nil {
			return nil, err
		}
		files, vanished, err := loadFiles(ctx, st, keys, list)
		if err != nil {
			return nil, err
		}
		if !vanished {
			return newChain(files), nil
		}
	}
	return nil, errors.New("the list of snapshots changed each time it was read; try again when gc is done")
}

// loadFiles reads the listed files in parallel and returns them in the order
// of the list.
func loadFiles(ctx context.Context, st store.Store, keys *fileKeys, list []store.Info) (files []*chainFile, vanished bool, err error) {
	files = make([]*chainFile, len(list))
	var next atomic.Int64
	var gone atomic.Bool
	var wg sync.WaitGroup
	for range min(len(list), max(2, min(8, pace.Cores()))) {
		wg.Go(func() {
			var buf []byte
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) || gone.Load() || ctx.Err() != nil {
					return
				}
				files[i], buf = loadFile(ctx, st, keys, list[i].Name, buf)
				if errors.Is(files[i].err, store.ErrNotExist) {
					gone.Store(true)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	return files, gone.Load(), nil
}

// loadFile reads one file of the chain. buf is memory to read into, and is
// returned for the next.
func loadFile(ctx context.Context, st store.Store, keys *fileKeys, name string, buf []byte) (*chainFile, []byte) {
	at, ok := parsePlace(name)
	if !ok {
		return &chainFile{name: name, err: fmt.Errorf("%s: %w: no file of a repository has such a name; move it away", name, ErrDamaged)}, buf
	}
	b, err := readObject(ctx, st, name, MaxSealedFileSize, buf)
	if err != nil {
		return &chainFile{name: name, at: at, err: err}, buf
	}
	f := openChainFile(keys, at, b)
	if f.body != nil && f.body.Snapshot != nil {
		f.body.Snapshot.Problems = nil
	}
	return f, b
}

// openChainFile reads a manifest or record from the bytes found at a place.
func openChainFile(keys *fileKeys, at place, b []byte) *chainFile {
	f := &chainFile{name: at.name(), at: at, size: int64(len(b)), hash: hash(crypto.Sum256(b))}
	h, plain, err := keys.open(f.name, b, sealedManifest, sealedForget, sealedUndelete)
	if err != nil {
		f.err = err
		return f
	}
	if (place{h.writer, h.seq}) != at {
		f.err = damagedFile(f.name, "it is file %d of writer %x", h.seq, h.writer[:])
		return f
	}
	if f.body, err = decodeChainBody(plain, h.kind, h.seq); err != nil {
		f.err = damagedFile(f.name, "%v", err)
	}
	return f
}

// readSnapshot reads a snapshot's manifest again, with its Problems.
func readSnapshot(ctx context.Context, st store.Store, keys *fileKeys, s *Snapshot) (*Manifest, error) {
	b, err := readObject(ctx, st, s.at.name(), MaxSealedFileSize, nil)
	if errors.Is(err, store.ErrNotExist) {
		return nil, fmt.Errorf("snapshot %s: %w: gc has removed it", s.ID, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	f := openChainFile(keys, s.at, b)
	if f.err != nil {
		return nil, f.err
	}
	if f.body.Snapshot == nil {
		return nil, damagedFile(f.name, "it is no manifest any more")
	}
	return f.body.Snapshot, nil
}
