package repo

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// testKey is a key file's credential; made once, as nothing depends on it.
var testKey = keyOf("test")

// keyOf makes a key file's credential out of a word.
func keyOf(word string) crypto.Credential {
	sum := crypto.Sum256([]byte(word))
	c, err := crypto.KeyFileCredential(sum[:])
	if err != nil {
		panic(err)
	}
	return c
}

func initTestRepo(t testing.TB, st store.Store, packSize int) {
	t.Helper()
	cfg := DefaultConfig(time.Now())
	if packSize > 0 {
		cfg.PackSize = packSize
	}
	if _, err := Init(t.Context(), st, InitOptions{Config: cfg, Slots: []NewSlot{{Label: "test", Credential: testKey}}}); err != nil {
		t.Fatal(err)
	}
}

func openTestRepo(t testing.TB, st store.Store, o Options) *Repo {
	t.Helper()
	r, err := Open(t.Context(), st, []crypto.Credential{testKey}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bareManifest is a manifest without a tree.
func bareManifest(t testing.TB, r *Repo) *Manifest {
	t.Helper()
	id, err := r.NewID(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return &Manifest{ID: id, Type: "full", CreatedAt: now, StartedAt: now, FinishedAt: now, Host: "test", Status: "completed",
		Parts: []Part{{Source: "test", Kind: "files", Profile: "files", StartedAt: now, FinishedAt: now, Failed: true}}}
}

// put stores chunks through one lane and commits.
func put(t testing.TB, r *Repo, chunks [][]byte, like func(i int) []Ref) []Ref {
	t.Helper()
	ctx := t.Context()
	w, err := r.NewWriter(ctx, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]Ref, len(chunks))
	for i, c := range chunks {
		var lk []Ref
		if like != nil {
			lk = like(i)
		}
		refs[i] = l.Ref(c)
		if _, err := l.Put(ctx, c, refs[i], lk); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(ctx, bareManifest(t, r)); err != nil {
		t.Fatal(err)
	}
	return refs
}

func randomChunks(rng *rand.Rand, n, least, most int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		c := make([]byte, least+rng.IntN(most-least+1))
		for j := range c {
			c[j] = byte(rng.Uint32())
		}
		out[i] = c
	}
	return out
}

func wantChunks(t testing.TB, r *Repo, refs []Ref, chunks [][]byte) {
	t.Helper()
	for i, ref := range refs {
		got, err := r.Reader().AppendChunk(context.Background(), nil, ref.ID)
		if err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if !bytes.Equal(got, chunks[i]) {
			t.Fatalf("chunk %d: other bytes came back", i)
		}
	}
}

func TestWriter_ReadsBackEveryChunkFromPacksOfOneSize(t *testing.T) {
	for _, state := range []bool{false, true} {
		st := store.NewMem()
		initTestRepo(t, st, MinPackSize)
		var o Options
		if state {
			o.StateDir = t.TempDir() + "/state"
		}
		rng := rand.New(rand.NewPCG(3, 4))
		chunks := append(randomChunks(rng, 60, 1, 200_000), randomChunks(rng, 500, 1, 50)...)
		for range 40 {
			chunks = append(chunks, textRows(rng, 1+rng.IntN(900)))
		}
		r := openTestRepo(t, st, o)
		refs := put(t, r, chunks, nil)
		wantChunks(t, r, refs, chunks)
		again := put(t, r, chunks, nil)
		wantChunks(t, r, again, chunks)
		r.Close()

		infos, err := st.List(t.Context(), "packs")
		if err != nil {
			t.Fatal(err)
		}
		full, total := 0, int64(0)
		for _, in := range infos {
			if in.Size == MinPackSize {
				full++
			}
			total += in.Size
		}
		if len(infos)-full > 1 || full < 5 {
			t.Errorf("state %v: %d packs, %d of them full; want one tail at most", state, len(infos), full)
		}
		r = openTestRepo(t, st, o)
		wantChunks(t, r, refs, chunks)
		r.Close()
	}
}

func TestLane_WritesDeltaBlocksWithinDepthAndReadsThem(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, 0)
	r := openTestRepo(t, st, Options{StateDir: t.TempDir()})
	defer func() { r.Close() }()
	rng := rand.New(rand.NewPCG(5, 6))
	text := textRows(rng, 9000)
	cut := func(p []byte) (out [][]byte) {
		for len(p) > 60_000 {
			out, p = append(out, p[:60_000]), p[60_000:]
		}
		return append(out, p)
	}
	versions := [][][]byte{cut(bytes.Clone(text))}
	base := put(t, r, versions[0], nil)
	plain := storeBytes(t, st)
	allRefs := [][]Ref{base}
	for day := range 2*MaxDepth + 3 {
		for range 40 {
			text[rng.IntN(len(text))] = byte('a' + rng.IntN(26))
		}
		version := cut(bytes.Clone(text))
		prev := allRefs[day]
		refs := put(t, r, version, func(i int) []Ref { return prev[max(0, i-1):min(len(prev), i+2)] })
		versions, allRefs = append(versions, version), append(allRefs, refs)
	}
	// Every run leaves a padded tail; what counts here is what lies in them.
	tails := int64(len(versions)-1) * MinTailSize
	if grown := storeBytes(t, st) - plain - tails; grown > 5*plain {
		t.Errorf("%d versions took %d bytes, the first one %d", len(versions)-1, grown, plain)
	}
	maxDepth := uint8(0)
	var deltas int
	err := r.eachTrailer(t.Context(), r.catalog.all(kindData), func(_ uint32, tr *trailer) error {
		for _, b := range tr.blocks {
			maxDepth = max(maxDepth, b.depth)
			if b.codec == codecDelta {
				deltas++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if maxDepth != MaxDepth || deltas < 60 {
		t.Errorf("got depth %d with %d delta blocks, want %d and more", maxDepth, deltas, MaxDepth)
	}
	r.Close()
	r = openTestRepo(t, st, Options{})
	for i := len(versions) - 1; i >= 0; i-- {
		wantChunks(t, r, allRefs[i], versions[i])
	}
}

func storeBytes(t testing.TB, st store.Store) (n int64) {
	t.Helper()
	infos, err := st.List(t.Context(), "packs")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range infos {
		n += in.Size
	}
	return n
}

func TestWriter_RefusesToCommitWhatALaneStillHolds(t *testing.T) {
	st := store.NewMem()
	initTestRepo(t, st, 0)
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	l, err := w.NewLane()
	if err != nil {
		t.Fatal(err)
	}
	c := []byte("not flushed")
	if _, err := l.Put(t.Context(), c, l.Ref(c), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), bareManifest(t, r)); err == nil {
		t.Fatal("a snapshot was committed whose chunk is in no pack")
	}
	if n := len(r.Snapshots()); n != 0 {
		t.Errorf("got %d snapshots, want none", n)
	}
}

func TestOpen_TellsWhatIsWrong(t *testing.T) {
	st := store.NewMem()
	if _, err := Open(t.Context(), st, []crypto.Credential{testKey}, Options{}); !errors.Is(err, ErrNoRepository) {
		t.Errorf("empty store: got %v, want ErrNoRepository", err)
	}
	initTestRepo(t, st, 0)
	if _, err := Open(t.Context(), st, []crypto.Credential{keyOf("other")}, Options{}); !errors.Is(err, crypto.ErrWrongKey) {
		t.Errorf("other key: got %v, want ErrWrongKey", err)
	}
	r := openTestRepo(t, st, Options{})
	defer r.Close()
	w, err := r.NewWriter(t.Context(), WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r2 := openTestRepo(t, st, Options{})
	defer r2.Close()
	var locked *store.LockedError
	if _, err := r2.NewWriter(t.Context(), WriterOptions{}); !errors.As(err, &locked) {
		t.Errorf("second writer: got %v, want a LockedError", err)
	}
}
