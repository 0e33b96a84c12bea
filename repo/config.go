package repo

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/generalbots/backupd/chunker"
	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

// configName is the object that holds the sealed config.
const configName = "config"

// maxConfigSize bounds the config in bytes, maxProfiles the profiles in it.
const (
	maxConfigSize = 1 << 20
	maxProfiles   = 16
)

// profileName is what a profile, and a kind of part, may be called.
var profileName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Config is what is fixed for a repository when it is made. It stands sealed
// in the object "config" and is never rewritten.
type Config struct {
	PackSize  int       // of a full pack, bytes; MinPackSize to MaxPackSize
	KeyEpoch  uint32    // of the master key; 1 in a new repository
	CreatedAt time.Time // UTC
	Profiles  []Profile // in the order of their ids
}

// Profile is a way to cut a kind of content into chunks.
type Profile struct {
	Name      string // "files", "database", "media"
	ID        uint8  // from 1, never reused for another meaning
	Algorithm uint16 // chunker.AlgorithmGear1
	Chunker   chunker.Params
}

// DefaultConfig returns the config of a new repository.
func DefaultConfig(now time.Time) Config {
	return Config{
		PackSize:  DefaultPackSize,
		KeyEpoch:  1,
		CreatedAt: utc(now),
		Profiles: []Profile{
			{Name: "files", ID: 1, Algorithm: chunker.AlgorithmGear1, Chunker: chunker.Files()},
			{Name: "database", ID: 2, Algorithm: chunker.AlgorithmGear1, Chunker: chunker.Database()},
			{Name: "media", ID: 3, Algorithm: chunker.AlgorithmGear1, Chunker: chunker.Media()},
		},
	}
}

// Profile returns the profile of that name, or an error that lists those
// there are.
func (c *Config) Profile(name string) (Profile, error) {
	var names []string
	for _, p := range c.Profiles {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("profile %q: %w: the repository has %q", name, ErrNotFound, names)
}

// validate compares a config with the maxima of the format. An algorithm this
// version does not know is ErrNewerFormat.
func (c *Config) validate() error {
	switch {
	case c.PackSize < MinPackSize || c.PackSize > MaxPackSize:
		return fmt.Errorf("a pack size of %d, allowed are %d to %d", c.PackSize, MinPackSize, MaxPackSize)
	case c.KeyEpoch == 0:
		return errors.New("key epoch 0")
	case len(c.Profiles) == 0 || len(c.Profiles) > maxProfiles:
		return fmt.Errorf("%d profiles, allowed are 1 to %d", len(c.Profiles), maxProfiles)
	}
	if err := checkTime("created_at", c.CreatedAt); err != nil {
		return err
	}
	names := map[string]bool{}
	for i, p := range c.Profiles {
		switch {
		case !profileName.MatchString(p.Name):
			return fmt.Errorf("%q is no name of a profile", p.Name)
		case names[p.Name]:
			return fmt.Errorf("profile %q stands twice", p.Name)
		case p.ID == 0 || i > 0 && p.ID <= c.Profiles[i-1].ID:
			return fmt.Errorf("profile %q: id %d is zero or not above the one before", p.Name, p.ID)
		case p.Algorithm != chunker.AlgorithmGear1:
			return fmt.Errorf("profile %q: chunker algorithm %d: %w", p.Name, p.Algorithm, ErrNewerFormat)
		case p.Chunker.Max > MaxChunkSize:
			return fmt.Errorf("profile %q: chunks of %d bytes, at most %d are allowed", p.Name, p.Chunker.Max, MaxChunkSize)
		}
		if err := p.Chunker.Validate(); err != nil {
			return fmt.Errorf("profile %q: %v", p.Name, err)
		}
		names[p.Name] = true
	}
	return nil
}

// configJSON is the plaintext of the config. The keys are the format's.
type configJSON struct {
	PackSize  int           `json:"pack_size"`
	KeyEpoch  uint32        `json:"key_epoch"`
	CreatedAt time.Time     `json:"created_at"`
	Profiles  []profileJSON `json:"profiles"`
}

type profileJSON struct {
	Name          string `json:"name"`
	ID            uint8  `json:"id"`
	Algorithm     uint16 `json:"algorithm"`
	Min           int    `json:"min"`
	Avg           int    `json:"avg"`
	Max           int    `json:"max"`
	Normalisation uint8  `json:"normalisation"`
}

// sealConfig returns the contents of the object configName.
func (k *fileKeys) sealConfig(c *Config) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%s: %v", configName, err)
	}
	if c.KeyEpoch != k.epoch {
		return nil, fmt.Errorf("%s: key epoch %d, the key is of epoch %d", configName, c.KeyEpoch, k.epoch)
	}
	j := configJSON{PackSize: c.PackSize, KeyEpoch: c.KeyEpoch, CreatedAt: utc(c.CreatedAt)}
	for _, p := range c.Profiles {
		j.Profiles = append(j.Profiles, profileJSON{
			Name: p.Name, ID: p.ID, Algorithm: p.Algorithm,
			Min: p.Chunker.Min, Avg: p.Chunker.Avg, Max: p.Chunker.Max, Normalisation: p.Chunker.Normalisation,
		})
	}
	return k.seal(configName, sealedHeader{kind: sealedConfig}, j)
}

func (k *fileKeys) openConfig(b []byte) (Config, error) {
	h, plain, err := k.open(configName, b, sealedConfig)
	if err != nil {
		return Config{}, err
	}
	if h.seq != 0 || h.writer != (writerID{}) {
		return Config{}, damagedFile(configName, "it names a writer")
	}
	c, err := decodeConfig(plain)
	switch {
	case errors.Is(err, ErrNewerFormat):
		return Config{}, fmt.Errorf("%s: %w", configName, err)
	case err != nil:
		return Config{}, damagedFile(configName, "%v", err)
	case c.KeyEpoch != h.epoch:
		return Config{}, damagedFile(configName, "it says key epoch %d and is sealed under %d", c.KeyEpoch, h.epoch)
	}
	return c, nil
}

func decodeConfig(plain []byte) (Config, error) {
	var c Config
	err := readJSON(plain, func(r *jsonReader) {
		r.object(func(key []byte) bool {
			switch string(key) {
			case "pack_size":
				c.PackSize = int(r.uint(31))
			case "key_epoch":
				c.KeyEpoch = uint32(r.uint(32))
			case "created_at":
				c.CreatedAt = r.time()
			case "profiles":
				r.array(maxProfiles, func() { c.Profiles = append(c.Profiles, r.profile()) })
			default:
				return false
			}
			return true
		})
	})
	if err != nil {
		return Config{}, err
	}
	return c, c.validate()
}

func (r *jsonReader) profile() (p Profile) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "name":
			p.Name = r.string()
		case "id":
			p.ID = uint8(r.uint(8))
		case "algorithm":
			p.Algorithm = uint16(r.uint(16))
		case "min":
			p.Chunker.Min = int(r.uint(31))
		case "avg":
			p.Chunker.Avg = int(r.uint(31))
		case "max":
			p.Chunker.Max = int(r.uint(31))
		case "normalisation":
			p.Chunker.Normalisation = uint8(r.uint(8))
		default:
			return false
		}
		return true
	})
	return p
}

// readConfig returns the repository's config.
func readConfig(ctx context.Context, st store.Store, keys *fileKeys) (Config, error) {
	b, err := readObject(ctx, st, configName, maxConfigSize, nil)
	if errors.Is(err, store.ErrNotExist) {
		return Config{}, damagedFile(configName, "it is missing")
	}
	if err != nil {
		return Config{}, err
	}
	return keys.openConfig(b)
}

// newSlot is a key slot to be made with a repository.
type newSlot struct {
	label      string
	credential crypto.Credential
	params     crypto.SlotParams
}

// createRepository writes the first files of a repository: the key slots, the
// config, and last the format file, which makes it one. Until then the files
// protect nothing, so what an interrupted init left behind is removed first,
// unless there are packs or snapshots. The caller holds the writer's lock.
// ErrExists when there is a repository already.
func createRepository(ctx context.Context, st store.Store, id crypto.RepoID, m *crypto.MasterKey, c *Config, slots []newSlot) error {
	b, err := readObject(ctx, st, formatName, formatMaxSize, nil)
	if err == nil {
		if _, err = decodeFormat(b); err == nil || errors.Is(err, ErrNewerFormat) {
			return ErrExists
		}
	}
	if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	for _, dir := range []string{"packs", snapshotDir} {
		list, err := st.List(ctx, dir)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return damagedFile(formatName, "it is missing, though there are %d objects in %s", len(list), dir)
		}
	}
	old, err := st.List(ctx, slotDir)
	if err != nil {
		return err
	}
	leftovers := []string{configName}
	for _, o := range old {
		leftovers = append(leftovers, o.Name)
	}
	if err := st.Remove(ctx, leftovers...); err != nil {
		return err
	}

	for _, s := range slots {
		if _, err := addSlot(ctx, st, id, m, c.KeyEpoch, s, c.CreatedAt); err != nil {
			return err
		}
	}
	sealed, err := newFileKeys(m, id, c.KeyEpoch).sealConfig(c)
	if err != nil {
		return err
	}
	if err := writeObject(ctx, st, configName, sealed); err != nil {
		return err
	}
	return writeObject(ctx, st, formatName, encodeFormat(id))
}
