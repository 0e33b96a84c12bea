package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/durable"
	"github.com/generalbots/backupd/internal/durable/crashfs"
	"github.com/generalbots/backupd/internal/store"
)

// everyKind is a small repository that has every kind of object: format,
// config, two slots, data and tree packs with stored, zstd and delta blocks
// and pads, manifests live and forgotten, both records, a tomb.
type everyKind struct {
	objects map[string][]byte
	state   *crashfs.FS        // of the host that wrote it
	files   map[string]version // by snapshot, live and forgotten
	needs   map[string]map[blockAt]bool
	keys    map[string]string // slot object -> the word its key is made of

	forgotten place // of the manifest that is forgotten
}

// blockAt names a block of an everyKind; a block of -1 is the pack as such.
type blockAt struct {
	pack  string
	block int
}

const secondKey = "second"

func buildEveryKind(t testing.TB) *everyKind {
	t.Helper()
	ctx := t.Context()
	k := &everyKind{objects: map[string][]byte{}, files: map[string]version{}, needs: map[string]map[blockAt]bool{}, keys: map[string]string{}}
	st := store.NewMem()
	k.state = crashfs.New()
	initTestRepo(t, st, MinPackSize)
	r, err := openWith(ctx, st, []crypto.Credential{testKey}, Options{}, k.state)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(6, 6))
	noise := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	// Two blocks of one length, to be swapped.
	twins := func(w *Writer, ctx context.Context, m *Manifest) error {
		l, err := w.NewLane()
		if err != nil {
			return err
		}
		for range 2 {
			c := noise(700)
			if _, err := l.Put(ctx, c, l.Ref(c), nil); err != nil {
				return err
			}
			if err := l.Flush(ctx); err != nil {
				return err
			}
		}
		return w.Commit(ctx, m)
	}
	v := version{"rows": textRows(rng, 60), "noise": noise(900), "empty": nil}
	commit := func(base *Snapshot, how func(*Writer, context.Context, *Manifest) error) *Snapshot {
		id, err := r.NewID(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s, err := commitFilesAs(ctx, r, id, v, base, how)
		if err != nil {
			t.Fatal(err)
		}
		k.files[id] = maps.Clone(v)
		return s
	}
	first := commit(nil, twins)
	p := bytes.Clone(v["rows"])
	p[10], p[2000] = '#', '#'
	v = version{"rows": p, "noise": v["noise"], "empty": nil, "new": noise(300)}
	second := commit(first, (*Writer).Commit)
	third := commit(second, (*Writer).Commit)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.Forget(ctx, third.ID, first.ID))
	must(r.Undelete(ctx, first.ID))
	k.forgotten = third.at
	_, err = r.AddKey(ctx, NewSlot{Label: "second", Credential: keyOf(secondKey)})
	must(err)
	_, err = r.condemn(ctx, []crypto.PackID{{1}, {2}})
	must(err)
	keys, err := r.Keys(ctx)
	must(err)
	for _, info := range keys {
		k.keys[slotName(info.ID)] = info.Label
	}
	for _, s := range append(r.Snapshots(), r.Forgotten()...) {
		for name := range k.files[s.ID] {
			k.needs[s.ID+"/"+name] = neededBlocks(t, r, s, name)
		}
	}
	must(r.Close())
	infos, err := st.List(ctx, "")
	must(err)
	for _, in := range infos {
		b, err := readObject(ctx, st, in.Name, 1<<30, nil)
		must(err)
		k.objects[in.Name] = bytes.Clone(b)
	}
	return k
}

// neededBlocks follows a file of a snapshot down to the blocks it is read from.
func neededBlocks(t testing.TB, r *Repo, s *Snapshot, name string) map[blockAt]bool {
	t.Helper()
	ctx := context.Background()
	out := map[blockAt]bool{}
	var chunk func(kind packKind, id crypto.ID, below uint8)
	chunk = func(kind packKind, id crypto.ID, below uint8) {
		spots, err := r.reader.candidates(ctx, kind, &id, below, nil)
		if err != nil || len(spots) == 0 {
			t.Fatalf("%s: chunk %s: %v", name, id.Short(), err)
		}
		info := r.catalog.info(spots[0].pack)
		out[blockAt{packName(info.id, info.kind), -1}] = true
		out[blockAt{packName(info.id, info.kind), int(spots[0].block)}] = true
		e, err := r.reader.pack(ctx, spots[0].pack)
		if err != nil {
			t.Fatal(err)
		}
		defer r.reader.packs.release(e)
		rec := &e.val.trailer.blocks[spots[0].block]
		for i := range uint32(rec.dicts) {
			chunk(kind, e.val.trailer.dict(rec.dictAt+i), rec.depth)
		}
	}
	root, err := r.Root(&s.Parts[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := walkTree(ctx, r.reader, root.Dir, func(id crypto.ID, _ pageKind, _ uint32) bool { chunk(kindTree, id, anyDepth); return true }, func(Ref) {}); err != nil {
		t.Fatal(err)
	}
	raw, ok, err := r.Reader().Dir(root.Dir).Find(ctx, name)
	if err != nil || !ok {
		t.Fatal(err)
	}
	var e Entry
	if err := raw.Entry(&e); err != nil {
		t.Fatal(err)
	}
	refs, err := contentRefs(ctx, r, &e.Content)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		chunk(kindData, ref.ID, anyDepth)
	}
	return out
}

// layer is the store of an everyKind with some objects replaced; nil is a
// missing one. It is read only but for locks, which it does not keep.
type layer struct {
	base    map[string][]byte
	changed map[string][]byte
}

func (l *layer) get(name string) ([]byte, bool) {
	if b, ok := l.changed[name]; ok {
		return b, b != nil
	}
	b, ok := l.base[name]
	return b, ok
}

func (l *layer) Create(context.Context, string, int64) (store.Writer, error) {
	return nil, store.ErrReadOnly
}

func (l *layer) Remove(context.Context, ...string) error    { return store.ErrReadOnly }
func (l *layer) Space(context.Context) (store.Space, error) { return store.Space{}, nil }
func (l *layer) Lock(context.Context, string, store.LockMode) (io.Closer, error) {
	return io.NopCloser(nil), nil
}

func (l *layer) Open(_ context.Context, name string) (store.Object, error) {
	b, ok := l.get(name)
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, store.ErrNotExist)
	}
	return bytesObject{bytes.NewReader(b)}, nil
}

type bytesObject struct{ *bytes.Reader }

func (bytesObject) Close() error { return nil }

func (l *layer) List(_ context.Context, prefix string) (out []store.Info, err error) {
	names := maps.Clone(l.base)
	maps.Copy(names, l.changed)
	for name, b := range names {
		if b != nil && (prefix == "" || len(name) > len(prefix) && name[:len(prefix)] == prefix && name[len(prefix)] == '/') {
			out = append(out, store.Info{Name: name, Size: int64(len(b))})
		}
	}
	sortInfos(out)
	return out, nil
}

// errUnsound is what inspect returns when a check has found something.
var errUnsound = errors.New("not sound")

// inspect opens the repository with some objects changed, checks it and reads
// every file. problem is nil when nothing was found; the files that could be
// read are returned by snapshot and name.
func (k *everyKind) inspect(changed map[string][]byte, word string) (read map[string][]byte, rep *CheckReport, unnamed []error, problem error) {
	ctx := context.Background()
	state := durable.FS(k.state.Crash(rand.New(rand.NewPCG(1, 1)), 100))
	r, err := openWith(ctx, &layer{k.objects, changed}, []crypto.Credential{keyOf(word)}, Options{}, state)
	if err != nil {
		return nil, nil, nil, err
	}
	defer r.Close()
	rep, err = r.Check(ctx, CheckOptions{ReadData: true}, &CheckProgress{})
	if err != nil {
		return nil, nil, nil, err
	}
	if !rep.Sound() {
		problem = errUnsound
	}
	read = map[string][]byte{}
	for _, s := range append(r.Snapshots(), r.Forgotten()...) {
		for name := range k.files[s.ID] {
			b, err := readOne(ctx, r, s, name)
			if err == nil {
				read[s.ID+"/"+name] = b
			} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNewerFormat) && !errors.Is(err, fs.ErrNotExist) {
				unnamed = append(unnamed, err)
			}
		}
	}
	return read, rep, unnamed, problem
}

// readOne returns the bytes of one file of a snapshot.
func readOne(ctx context.Context, r *Repo, s *Snapshot, name string) ([]byte, error) {
	root, err := r.Root(&s.Parts[0])
	if err != nil {
		return nil, err
	}
	raw, ok, err := r.Reader().Dir(root.Dir).Find(ctx, name)
	if err != nil || !ok {
		return nil, errors.Join(err, map[bool]error{false: ErrNotFound}[ok])
	}
	var e Entry
	if err := raw.Entry(&e); err != nil {
		return nil, err
	}
	refs, err := contentRefs(ctx, r, &e.Content)
	if err != nil {
		return nil, err
	}
	p := []byte{}
	for _, ref := range refs {
		if p, err = r.Reader().AppendChunk(ctx, p, ref.ID); err != nil {
			return nil, err
		}
	}
	return p, nil
}
