package repo

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

var testNow = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)

// testKeys returns the keys of a new repository.
func testKeys(t testing.TB) *fileKeys {
	t.Helper()
	m, err := crypto.GenerateMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := crypto.NewRepoID()
	if err != nil {
		t.Fatal(err)
	}
	return newFileKeys(m, id, 1)
}

// testManifest returns a manifest as a run of two parts leaves it.
func testManifest(id string) *Manifest {
	counts := Counts{Files: 78611, Dirs: 5120, New: 3, Changed: 17, Removed: 1, Unchanged: 78590, BytesTotal: 1_300_000_000, BytesRead: 400_000, BytesNew: 90_000, BytesStored: 40_000}
	part := func(source, kind, profile string) Part {
		return Part{
			Source: source, Kind: kind, Profile: profile, Paths: [][]byte{[]byte("/opt/gbo/data"), {0xff, '/'}},
			Exclude: []string{"*.log", "cache/<&>"}, OneFileSystem: true, StartedAt: testNow, FinishedAt: testNow.Add(time.Minute),
			Generation: 12, Notes: []string{"read while the database ran"}, Root: []byte(strings.Repeat("root", 25)), Counts: counts,
		}
	}
	return &Manifest{
		ID: id, Type: "incremental", CreatedAt: testNow, StartedAt: testNow.Add(time.Second), FinishedAt: testNow.Add(time.Hour),
		Host: "bots-1", Tags: []string{"nightly"}, Program: "backupd 1.0.0", Status: "completed_with_problems",
		Parts: []Part{part("bots", "files", "files"), part("databases", "postgres", "database")}, Totals: counts,
		Problems:     []Problem{{Path: []byte("/opt/gbo/data/\xff"), Op: "open", Text: "permission denied"}},
		ProblemCount: 1,
	}
}

// testID returns the n-th of a sequence of snapshot ids.
func testID(n int) string { return fmt.Sprintf("backup-01jz%022d", n) }

// oneOfEach returns a sealed file of each kind, by name, with what opens it.
func oneOfEach(t testing.TB, keys *fileKeys) map[string][]byte {
	t.Helper()
	w := writerID{1, 2, 3}
	files := map[string][]byte{}
	config := DefaultConfig(testNow)
	sealed, err := keys.sealConfig(&config)
	if err != nil {
		t.Fatal(err)
	}
	files[configName] = sealed
	for i, body := range []*chainBody{
		{Snapshot: testManifest(testID(1))},
		{Prev: hash{1}, Forget: &forgetRecord{At: testNow, ID: testID(1), Writer: w, Seq: 1, Hash: hash{1}}},
		{Prev: hash{2}, Undelete: &undeleteRecord{At: testNow, ID: testID(1), Writer: w, Seq: 2}},
	} {
		at := place{w, uint64(i + 1)}
		sealed, err := keys.seal(at.name(), sealedHeader{kind: body.kind(), writer: w, seq: at.seq}, body)
		if err != nil {
			t.Fatal(err)
		}
		files[at.name()] = sealed
	}
	return files
}

// openNamed reads a file as the name it was found under tells.
func openNamed(keys *fileKeys, name string, b []byte) error {
	if name == configName {
		_, err := keys.openConfig(b)
		return err
	}
	at, ok := parsePlace(name)
	if !ok {
		return errors.New("no place")
	}
	return openChainFile(keys, at, b).err
}

func TestSealed_OpensWhatWasSealed(t *testing.T) {
	keys := testKeys(t)
	for name, b := range oneOfEach(t, keys) {
		if err := openNamed(keys, name, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := (len(b) - sealedMinSize) % sealedBucket; got != 0 {
			t.Errorf("%s: %d bytes beyond a bucket", name, got)
		}
	}
}

// refused checks that err is about damage or a newer format and names the object.
func refused(t *testing.T, what, name string, err error) {
	t.Helper()
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("%s: %s: got error %v, want damaged or newer", name, what, err)
	}
	if !strings.Contains(err.Error(), name) {
		t.Fatalf("%s: %s: the error does not name the object: %v", name, what, err)
	}
}

func TestSealed_RefusesEveryFlippedByte(t *testing.T) {
	keys := testKeys(t)
	for name, b := range oneOfEach(t, keys) {
		for i := range b {
			for _, mask := range []byte{0x01, 0x80} {
				b[i] ^= mask
				refused(t, fmt.Sprintf("byte %d ^ %#x", i, mask), name, openNamed(keys, name, b))
				b[i] ^= mask
			}
		}
	}
}

func TestSealed_RefusesEveryOtherLength(t *testing.T) {
	keys := testKeys(t)
	for name, b := range oneOfEach(t, keys) {
		for n := range b {
			refused(t, fmt.Sprintf("cut to %d", n), name, openNamed(keys, name, b[:n]))
		}
		for _, n := range []int{1, 16, 511, 512, 1024} {
			refused(t, fmt.Sprintf("%d longer", n), name, openNamed(keys, name, append(b[:len(b):len(b)], make([]byte, n)...)))
		}
	}
}

func TestSealed_RefusesAFileUnderTheNameOfEachOther(t *testing.T) {
	keys := testKeys(t)
	files := oneOfEach(t, keys)
	for name := range files {
		for other, b := range files {
			if other != name {
				refused(t, "swapped with "+other, name, openNamed(keys, name, b))
			}
		}
	}
}

func TestSealed_RefusesAManifestReplayedElsewhere(t *testing.T) {
	keys := testKeys(t)
	w := writerID{1, 2, 3}
	name := place{w, 1}.name()
	b := oneOfEach(t, keys)[name]

	t.Run("under another number or writer", func(t *testing.T) {
		for _, at := range []place{{w, 2}, {writerID{9}, 1}} {
			f := openChainFile(keys, at, b)
			refused(t, "replayed", at.name(), f.err)
		}
	})
	t.Run("under another number that the header confirms", func(t *testing.T) {
		c := append([]byte(nil), b...)
		c[48] = 2
		refused(t, "replayed", place{w, 2}.name(), openChainFile(keys, place{w, 2}, c).err)
	})
	t.Run("as a record", func(t *testing.T) {
		for _, kind := range []sealedKind{sealedForget, sealedUndelete, sealedConfig, sealedTomb, sealedCheckpoint} {
			c := append([]byte(nil), b...)
			c[10] = byte(kind)
			refused(t, kind.String(), name, openNamed(keys, name, c))
		}
	})
	t.Run("in another repository", func(t *testing.T) {
		other := testKeys(t)
		err := openNamed(other, name, b)
		refused(t, "other repository", name, err)
		if !strings.Contains(err.Error(), "belongs to repository "+keys.repo.String()) {
			t.Errorf("the error does not say whose it is: %v", err)
		}
		// With its header made to fit, the seal still does not.
		c := append([]byte(nil), b...)
		copy(c[16:], other.repo[:])
		refused(t, "other repository", name, openNamed(other, name, c))
		same := *other
		same.repo = keys.repo
		refused(t, "other key", name, openNamed(&same, name, b))
	})
	t.Run("under another key epoch", func(t *testing.T) {
		later := *keys
		later.epoch = 2
		err := openNamed(&later, name, b)
		refused(t, "epoch", name, err)
		if !strings.Contains(err.Error(), "epoch 1") {
			t.Errorf("the error does not name the epoch: %v", err)
		}
	})
}

func TestSealed_TellsWhatIsWrong(t *testing.T) {
	keys := testKeys(t)
	name := place{writerID{1, 2, 3}, 1}.name()
	whole := oneOfEach(t, keys)[name]
	for what, tc := range map[string]struct {
		change func(b []byte) []byte
		is     error
		want   string
	}{
		"empty":     {func(b []byte) []byte { return nil }, ErrDamaged, "cut short: 0 bytes"},
		"zeros":     {func(b []byte) []byte { clear(b); return b }, ErrDamaged, "does not begin as a sealed file"},
		"newer":     {func(b []byte) []byte { b[8] = 2; return b }, ErrNewerFormat, "version 2, this is 1"},
		"profile":   {func(b []byte) []byte { b[11] = 2; return b }, ErrNewerFormat, "cipher profile 2"},
		"kind":      {func(b []byte) []byte { b[10] = 7; return b }, ErrNewerFormat, "file of kind 7"},
		"half":      {func(b []byte) []byte { return b[:len(b)-100] }, ErrDamaged, "cut short or has something behind"},
		"body":      {func(b []byte) []byte { b[200] ^= 1; return b }, ErrDamaged, "bytes were altered"},
		"old":       {func(b []byte) []byte { b[8] = 0; return b }, ErrDamaged, "format version 0"},
		"reserved":  {func(b []byte) []byte { b[60] = 1; return b }, ErrDamaged, "reserved"},
		"key epoch": {func(b []byte) []byte { b[12] = 9; return b }, ErrDamaged, "key epoch 9"},
	} {
		err := openNamed(keys, name, tc.change(append([]byte(nil), whole...)))
		if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %v with %q", what, err, tc.is, tc.want)
		}
	}
}

func TestReadObject_RefusesALongOneBeforeReadingIt(t *testing.T) {
	st := store.NewMem()
	if err := writeObject(t.Context(), st, configName, make([]byte, maxConfigSize+1)); err != nil {
		t.Fatal(err)
	}
	_, err := readConfig(t.Context(), st, testKeys(t))
	refused(t, "too long", configName, err)
	if !strings.Contains(err.Error(), "at most 1048576") {
		t.Errorf("the error does not name the maximum: %v", err)
	}
}
