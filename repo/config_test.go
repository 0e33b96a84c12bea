package repo

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

func TestConfig_ReadsWhatWasWritten(t *testing.T) {
	keys := testKeys(t)
	want := DefaultConfig(testNow.Local())
	b, err := keys.sealConfig(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keys.openConfig(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, name := range []string{"files", "database", "media"} {
		if p, err := got.Profile(name); err != nil || p.Name != name || p.Chunker.Validate() != nil {
			t.Errorf("profile %s: got %+v, %v", name, p, err)
		}
	}
	if _, err := got.Profile("other"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "database") {
		t.Errorf("got error %v, want ErrNotFound and the names there are", err)
	}
}

func TestConfig_RefusesWhatTheFormatDoesNotAllow(t *testing.T) {
	for what, tc := range map[string]struct {
		change func(*Config)
		is     error
	}{
		"small packs":       {func(c *Config) { c.PackSize = MinPackSize - 1 }, nil},
		"large packs":       {func(c *Config) { c.PackSize = MaxPackSize + 1 }, nil},
		"epoch 0":           {func(c *Config) { c.KeyEpoch = 0 }, nil},
		"no time":           {func(c *Config) { c.CreatedAt = c.CreatedAt.AddDate(-3000, 0, 0) }, nil},
		"no profiles":       {func(c *Config) { c.Profiles = nil }, nil},
		"many profiles":     {func(c *Config) { c.Profiles = make([]Profile, maxProfiles+1) }, nil},
		"profile twice":     {func(c *Config) { c.Profiles[1].Name = c.Profiles[0].Name }, nil},
		"id twice":          {func(c *Config) { c.Profiles[1].ID = c.Profiles[0].ID }, nil},
		"id 0":              {func(c *Config) { c.Profiles[0].ID = 0 }, nil},
		"name":              {func(c *Config) { c.Profiles[0].Name = "Files" }, nil},
		"unknown algorithm": {func(c *Config) { c.Profiles[2].Algorithm = 2 }, ErrNewerFormat},
		"chunks":            {func(c *Config) { c.Profiles[0].Chunker = chunker.Params{Min: 64, Avg: 100, Max: 200} }, nil},
		"large chunks":      {func(c *Config) { c.Profiles[0].Chunker.Max = MaxChunkSize + 1 }, nil},
	} {
		c := DefaultConfig(testNow)
		tc.change(&c)
		err := c.validate()
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: got error %v", what, err)
		}
	}
	keys := testKeys(t)
	b, err := keys.seal(configName, sealedHeader{kind: sealedConfig}, map[string]any{"pack_size": 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	_, err = keys.openConfig(b)
	refused(t, "half a config", configName, err)
}

// slotsFor returns a key file slot to make, and the key file.
func slotsFor(t testing.TB) ([]newSlot, crypto.Credential) {
	t.Helper()
	file, err := crypto.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	cred, err := crypto.KeyFileCredential(file)
	if err != nil {
		t.Fatal(err)
	}
	return []newSlot{{label: "host", credential: cred}}, cred
}

func TestCreateRepository_IsThereOnceItsFormatFileIs(t *testing.T) {
	slots, cred := slotsFor(t)
	m, err := crypto.GenerateMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	id := crypto.RepoID{7}
	config := DefaultConfig(testNow)
	dir, err := store.MakeDir(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()

	// An init that ended after each of its files, then another.
	for _, fails := range []string{"config", "format", ""} {
		st := &createFault{Store: dir, name: fails}
		err := createRepository(t.Context(), st, id, m, &config, slots)
		if (err != nil) != (fails != "") {
			t.Fatalf("init that can not write %q: got error %v", fails, err)
		}
		if _, err := readFormat(t.Context(), dir); (err != nil) != (fails != "") {
			t.Fatalf("after an init that could not write %q: got error %v", fails, err)
		}
	}
	if err := createRepository(t.Context(), dir, id, m, &config, slots); !errors.Is(err, ErrExists) {
		t.Errorf("a second init: got error %v, want ErrExists", err)
	}
	list, err := listSlots(t.Context(), dir, id)
	if err != nil || len(list) != 1 {
		t.Fatalf("got slots %+v, %v, want one", list, err)
	}
	opened, info, err := openSlots(t.Context(), dir, id, cred)
	if err != nil || info.Label != "host" {
		t.Fatalf("got slot %+v, %v", info, err)
	}
	got, err := readConfig(t.Context(), dir, newFileKeys(opened, id, info.Epoch))
	if err != nil || !reflect.DeepEqual(got, config) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Keys must not be replaced while there is something they open.
func TestCreateRepository_RefusesToBeginAnewOverSnapshots(t *testing.T) {
	slots, _ := slotsFor(t)
	m, err := crypto.GenerateMasterKey()
	if err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig(testNow)
	for name, want := range map[string]error{
		place{writerID{1}, 1}.name():          ErrDamaged,
		"packs/00/" + strings.Repeat("0", 32): ErrDamaged,
		"format":                              ErrDamaged, // what is no format file
	} {
		st := store.NewMem()
		if err := writeObject(t.Context(), st, name, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := createRepository(t.Context(), st, crypto.RepoID{7}, m, &config, slots); !errors.Is(err, want) {
			t.Errorf("with %s: got error %v, want %v", name, err, want)
		}
		if list, err := st.List(t.Context(), ""); err != nil || len(list) != 1 {
			t.Errorf("with %s: got objects %v, %v, want nothing touched", name, list, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	keys := testKeys(f)
	c := DefaultConfig(testNow)
	b, err := keys.sealConfig(&c)
	if err != nil {
		f.Fatal(err)
	}
	_, plain, err := keys.open(configName, b, sealedConfig)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := keys.openConfig(b); err == nil && len(b)%sealedBucket != sealedMinSize%sealedBucket {
			t.Error("a config of a length that none has")
		}
		c, err := decodeConfig(b)
		if err != nil {
			return
		}
		var j configJSON
		if err := json.Unmarshal(b, &j); err != nil {
			t.Fatalf("encoding/json refuses what was read: %v", err)
		}
		sealed, err := keys.sealConfig(&c)
		if c.KeyEpoch != keys.epoch {
			return
		}
		if err != nil {
			t.Fatalf("what was read can not be written: %v", err)
		}
		if again, err := keys.openConfig(sealed); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("got %+v, %v, want %+v", again, err, c)
		}
	})
}
