package index_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dgraph-io/badger/v4"
	badgeroptions "github.com/dgraph-io/badger/v4/options"

	"github.com/generalbots/backupd/index"
)

// damageTrials is how many damaged copies are opened; BACKUPD_INDEX_TRIALS changes it.
func damageTrials(t *testing.T, normally int) int {
	if s := os.Getenv("BACKUPD_INDEX_TRIALS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return normally
}

// kinds are suffixes of file names; those that matter more stand there more often.
var kinds = []string{".sst", ".sst", ".sst", ".mem", ".mem", ".mem", "MANIFEST", "MANIFEST", "state", ".vlog", "KEYREGISTRY", "DISCARD"}

// damage changes one file of the image and says how.
func damage(r *rand.Rand, im image) string {
	var names []string
	for len(names) == 0 {
		names = im.names(kinds[r.IntN(len(kinds))])
	}
	name := names[r.IntN(len(names))]
	f := im[name]
	at := 0
	switch n := len(f.data); {
	case n == 0 || r.IntN(10) == 0:
		at = r.IntN(max(f.size, 1))
	case r.IntN(3) == 0: // headers and footers are short: give them their share
		at = []int{r.IntN(min(n, 64)), n - 1 - r.IntN(min(n, 64))}[r.IntN(2)]
	default:
		at = r.IntN(n)
	}
	switch k := r.IntN(20); {
	case k < 14:
		bit := r.IntN(8)
		f.set(at, f.at(at)^1<<bit)
		return fmt.Sprintf("%s: bit %d of byte %d", name, bit, at)
	case k < 16:
		b := byte(r.Uint32())
		for i := at; i < min(at+1+r.IntN(64), f.size); i++ {
			f.set(i, b)
		}
		return fmt.Sprintf("%s: bytes from %d", name, at)
	case k < 17:
		for i := at; i < min(at+512, len(f.data)); i++ {
			f.set(i, 0)
		}
		return fmt.Sprintf("%s: sector at %d lost", name, at)
	case k < 18:
		f.data, f.size = f.data[:min(at, len(f.data))], at
		return fmt.Sprintf("%s: cut at %d", name, at)
	case k < 19:
		f.set(f.size, 1+byte(r.IntN(255)))
		f.size++
		return fmt.Sprintf("%s: a byte more", name)
	default:
		delete(im, name)
		return name + ": gone"
	}
}

func TestOpen_NeverBelievesDamagedFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		im     image
		trials int
	}{{"AfterClose", cleanImage(t), damageTrials(t, 2500)}, {"AfterCrash", crashedImage(t), damageTrials(t, 500)}} {
		t.Run(c.name, func(t *testing.T) {
			const seed = 20
			r := rand.New(rand.NewPCG(seed, seed))
			base := memoryDir(t)
			if found, err := checkImage(t, c.im, filepath.Join(base, "sound"), true); err != nil || found != imagePacks*imageEntries {
				t.Fatalf("undamaged: found %d, %v; want all %d", found, err, imagePacks*imageEntries)
			}
			refused, whole := 0, 0
			for i := range c.trials {
				im := c.im.clone()
				what := damage(r, im)
				dir := filepath.Join(base, strconv.Itoa(i))
				found, err := checkImage(t, im, dir, true)
				var unusable *index.UnusableError
				switch {
				case errors.As(err, &unusable) && unusable.Resettable:
					refused++
				case err != nil:
					t.Fatalf("trial %d, %s: Open = %v; want a resettable *UnusableError", i, what, err)
				case found == imagePacks*imageEntries:
					whole++
				}
				if t.Failed() {
					t.Fatalf("trial %d: %s", i, what)
				}
				_ = os.RemoveAll(dir)
			}
			t.Logf("refused %d, all found %d, of %d", refused, whole, c.trials)
		})
	}
}

// openBadger opens the files without the care of the package.
func openBadger(t testing.TB, im image) *badger.DB {
	t.Helper()
	dir := memoryDir(t)
	im.write(t, dir)
	db, err := badger.OpenManaged(badger.DefaultOptions(filepath.Join(dir, "db")).
		WithLogger(nil).WithMetricsEnabled(false).WithCompression(badgeroptions.None).
		WithChecksumVerificationMode(badgeroptions.NoVerification).
		WithMemTableSize(1 << 20).WithValueThreshold(1 << 10).WithValueLogFileSize(1 << 20))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func chunkKey(e index.Entry) []byte { return append([]byte{'c'}, e.ID[:16]...) }

// What the damage test asserts is not what Badger does anyway: it opens these without an error.
func TestDamage_BadgerAloneWouldLoseOrLie(t *testing.T) {
	t.Run("LosesTheLog", func(t *testing.T) {
		im := crashedImage(t)
		log := im.one(t, ".mem")
		at := len(log.data) / 3
		log.set(at, log.at(at)^4)
		db := openBadger(t, im)
		defer db.Close()
		txn := db.NewTransactionAt(math.MaxUint64, false)
		defer txn.Discard()
		lost := 0
		for p := range uint32(imagePacks) {
			for _, e := range packEntries(p, imageEntries) {
				if _, err := txn.Get(chunkKey(e)); err != nil {
					lost++
				}
			}
		}
		if lost == 0 {
			t.Error("Badger lost nothing: the damage does no harm")
		}
		if _, err := checkImage(t, im, memoryDir(t), true); err == nil {
			t.Error("Open took a log with a damaged entry in its middle")
		}
	})
	t.Run("LiesFromATable", func(t *testing.T) {
		im := cleanImage(t)
		victim := packEntries(0, 1)[0]
		for _, name := range im.names(".sst") {
			f := im[name]
			if at := bytes.Index(f.data, victim.ID[4:16]); at >= 0 {
				at += 12 + 8 + 3 + 11 // version, flags, expiry, value up to the last byte of the offset
				f.set(at, f.at(at)^1)
			}
		}
		db := openBadger(t, im)
		defer db.Close()
		txn := db.NewTransactionAt(math.MaxUint64, false)
		defer txn.Discard()
		item, err := txn.Get(chunkKey(victim))
		if err != nil {
			t.Fatal(err)
		}
		v, err := item.ValueCopy(nil)
		if err != nil || len(v) != 25 || binary.BigEndian.Uint32(v[8:]) != victim.Offset^1 {
			t.Errorf("Badger gave %x, %v; want the value with one bit changed", v, err)
		}
		if _, err := checkImage(t, im, memoryDir(t), true); err == nil {
			t.Error("Open took a table with a changed bit")
		}
	})
}

// Values that Badger vouches for are still not believed. Each lie is written by Badger itself, so that all
// its checksums are right.
func TestLookup_DoesNotBelieveAValidTableWithALie(t *testing.T) {
	victim, other := packEntries(0, imageEntries)[7], packEntries(1, imageEntries)[8]
	for _, c := range []struct {
		name  string
		lie   func(victim, other []byte) []byte
		found bool
	}{
		{"NoLie", func(v, _ []byte) []byte { return v }, true},
		{"OtherChunksEntry", func(_, o []byte) []byte { return o }, false},
		{"OtherPack", func(v, o []byte) []byte { copy(v[:4], o[:4]); return v }, false},
		{"OtherBlock", func(v, _ []byte) []byte { v[7]++; return v }, false},
		{"OtherOffset", func(v, _ []byte) []byte { v[11]++; return v }, false},
		{"OtherLength", func(v, _ []byte) []byte { v[15]++; return v }, false},
		{"OtherDepth", func(v, _ []byte) []byte { v[16]++; return v }, false},
		{"OtherTag", func(v, _ []byte) []byte { v[24]++; return v }, false},
		{"Short", func(v, _ []byte) []byte { return v[:24] }, false},
		{"Long", func(v, _ []byte) []byte { return append(v, 0) }, false},
		{"Empty", func(_, _ []byte) []byte { return nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			im := crashedImage(t)
			dir := memoryDir(t)
			im.write(t, dir)
			db, err := badger.OpenManaged(badger.DefaultOptions(filepath.Join(dir, "db")).
				WithLogger(nil).WithMetricsEnabled(false).WithCompression(badgeroptions.None).
				WithMemTableSize(1 << 20).WithValueThreshold(1 << 10).WithValueLogFileSize(1 << 20).WithBypassLockGuard(true))
			if err != nil {
				t.Fatal(err)
			}
			get := func(e index.Entry) []byte {
				txn := db.NewTransactionAt(math.MaxUint64, false)
				defer txn.Discard()
				item, err := txn.Get(chunkKey(e))
				if err != nil {
					t.Fatal(err)
				}
				v, _ := item.ValueCopy(nil)
				return v
			}
			txn := db.NewTransactionAt(math.MaxUint64, true)
			if err := txn.Set(chunkKey(victim), c.lie(get(victim), get(other))); err != nil {
				t.Fatal(err)
			}
			if err := txn.CommitAt(db.MaxVersion()+1, nil); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}

			x := mustOpen(t, dir)
			got, ok, err := x.Lookup(victim.ID)
			if err != nil || ok != c.found || ok && got != victim.Place {
				t.Fatalf("Lookup = %+v, %v, %v; want found %v", got, ok, err, c.found)
			}
			wantPlace(t, x, other.ID, other.Place)
			mustClose(t, x)
			// What was met while open is not sealed as good.
			y, err := index.Open(options(dir))
			if (err == nil) != c.found {
				t.Errorf("Open after that = %v; want success %v", err, c.found)
			}
			if y != nil {
				mustClose(t, y)
			}
		})
	}
}

// A disk that takes a file away under the running program is a fault in Badger's memory map.
func TestLookup_SurvivesATableThatIsCutWhileOpen(t *testing.T) {
	dir := memoryDir(t)
	cleanImage(t).write(t, dir)
	x := mustOpen(t, dir)
	tables, err := filepath.Glob(filepath.Join(dir, "db", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, name := range tables {
		if err := os.Truncate(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	var unusable *index.UnusableError
	_, ok, err := x.Lookup(packEntries(0, 1)[0].ID)
	if ok || !errors.As(err, &unusable) || !unusable.Resettable {
		t.Errorf("Lookup = %v, %v; want a resettable *UnusableError", ok, err)
	}
	_ = x.Close()
	if _, err := index.Open(options(dir)); !errors.As(err, &unusable) || !unusable.Resettable {
		t.Errorf("Open after that = %v; want a resettable *UnusableError", err)
	}
}
