package repo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// The golden repository of format v1 was written once, by -update into an
// empty directory, and is never edited: every later program has to read it,
// and to refuse the broken vectors made of it.
const goldenDir = "../testdata/format/v1"

// goldenFiles is what good/expected.json says: snapshot -> file -> BLAKE3.
type goldenFiles struct {
	Live      map[string]map[string]string `json:"live"`
	Forgotten []string                     `json:"forgotten"`
}

// brokenVector is a way to break the golden repository and what must come of
// it. The vectors stand in broken/*.json.
type brokenVector struct {
	About string `json:"about"`
	Edits []edit `json:"edits"`
	// Want is "no repository", "newer", "wrong key" or "damaged" for what Open
	// says, or "found" when only a check can see it.
	Want string `json:"want"`
	// Object has to be named by the error or finding.
	Object string `json:"object,omitempty"`
}

// edit changes one object.
type edit struct {
	Object   string `json:"object"`
	Remove   bool   `json:"remove,omitempty"`
	Truncate *int   `json:"truncate,omitempty"` // to that many bytes
	Flip     *int   `json:"flip,omitempty"`     // the lowest bit of the byte there; from the end when negative
	Put      string `json:"put,omitempty"`      // hexadecimal, at At
	At       int    `json:"at,omitempty"`
	CopyOf   string `json:"copy_of,omitempty"` // becomes a copy of another object
}

func (e *edit) apply(objects map[string][]byte) {
	p := bytes.Clone(objects[e.Object])
	switch {
	case e.Remove:
		delete(objects, e.Object)
		return
	case e.CopyOf != "":
		p = bytes.Clone(objects[e.CopyOf])
	case e.Truncate != nil:
		p = p[:*e.Truncate]
	case e.Flip != nil:
		at := *e.Flip
		if at < 0 {
			at += len(p)
		}
		p[at] ^= 1
	default:
		b, err := hex.DecodeString(e.Put)
		if err != nil {
			panic(err)
		}
		copy(p[e.At:], b)
	}
	objects[e.Object] = p
}

func readGolden(t *testing.T) (map[string][]byte, crypto.Credential, goldenFiles) {
	t.Helper()
	objects := map[string][]byte{}
	root := filepath.Join(goldenDir, "good", "repository")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		objects[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(goldenDir, "good", "key"))
	if err != nil {
		t.Fatal(err)
	}
	cred, err := crypto.KeyFileCredential(key)
	if err != nil {
		t.Fatal(err)
	}
	var want goldenFiles
	b, err := os.ReadFile(filepath.Join(goldenDir, "good", "expected.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	return objects, cred, want
}

func TestGolden_FormatV1IsReadAsItWasWritten(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	objects, cred, want := readGolden(t)
	r, err := Open(t.Context(), &layer{objects, nil}, []crypto.Credential{cred}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mustBeSound(t, r)
	got := goldenFiles{Live: map[string]map[string]string{}}
	for _, s := range r.Snapshots() {
		files, err := readFiles(t.Context(), r, s)
		if err != nil {
			t.Fatal(err)
		}
		got.Live[s.ID] = hashes(files)
	}
	for _, s := range r.Forgotten() {
		got.Forgotten = append(got.Forgotten, s.ID)
	}
	if !maps.EqualFunc(got.Live, want.Live, func(a, b map[string]string) bool { return maps.Equal(a, b) }) || !slices.Equal(got.Forgotten, want.Forgotten) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	seen := map[codec]bool{}
	err = r.eachTrailer(t.Context(), r.catalog.all(0), func(_ uint32, tr *trailer) error {
		for _, b := range tr.blocks {
			seen[b.codec] = true
		}
		return nil
	})
	if err != nil || len(seen) != 4 {
		t.Errorf("the golden repository has the codecs %v, want all four (%v)", seen, err)
	}
}

func hashes(files version) map[string]string {
	out := map[string]string{}
	for name, p := range files {
		sum := crypto.Sum256(p)
		out[name] = hex.EncodeToString(sum[:])
	}
	return out
}

func TestGolden_BrokenVectorsAreRefusedForTheRightReason(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(goldenDir, "broken", "*.json"))
	if err != nil || len(names) < 15 {
		t.Fatalf("%d vectors (%v)", len(names), err)
	}
	good, cred, _ := readGolden(t)
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var v brokenVector
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			objects := maps.Clone(good)
			for i := range v.Edits {
				v.Edits[i].apply(objects)
			}
			got, text := verdict(t, objects, cred)
			if got != v.Want || !strings.Contains(text, v.Object) {
				t.Errorf("%s: got %q (%s), want %q naming %q", v.About, got, text, v.Want, v.Object)
			}
		})
	}
}

// verdict opens and checks what the objects make.
func verdict(t *testing.T, objects map[string][]byte, cred crypto.Credential) (kind, text string) {
	t.Helper()
	r, err := Open(t.Context(), &layer{objects, nil}, []crypto.Credential{cred}, Options{})
	if err != nil {
		for kind, is := range map[string]error{
			"no repository": ErrNoRepository, "newer": ErrNewerFormat, "wrong key": crypto.ErrWrongKey, "damaged": ErrDamaged,
		} {
			if errors.Is(err, is) {
				return kind, err.Error()
			}
		}
		return "another error", err.Error()
	}
	defer r.Close()
	rep, err := r.Check(t.Context(), CheckOptions{ReadData: true}, &CheckProgress{})
	if err != nil {
		return "check failed", err.Error()
	}
	if rep.Sound() {
		return "nothing", ""
	}
	for _, f := range rep.Findings {
		text += f.Object + ": " + f.Text + "\n"
	}
	return "found", text
}

// writeGolden makes the golden repository and its broken vectors. It refuses
// to touch those that are there.
func writeGolden(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(goldenDir); err == nil {
		return
	}
	k := buildEveryKind(t)
	write := func(name string, p []byte) {
		t.Helper()
		path := filepath.Join(goldenDir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	toJSON := func(v any) []byte {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return append(b, '\n')
	}
	for name, p := range k.objects {
		write("good/repository/"+name, p)
	}
	sum := crypto.Sum256([]byte("test"))
	write("good/key", sum[:])
	r, err := Open(t.Context(), &layer{k.objects, nil}, []crypto.Credential{testKey}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := goldenFiles{Live: map[string]map[string]string{}}
	for _, s := range r.Snapshots() {
		want.Live[s.ID] = hashes(k.files[s.ID])
	}
	for _, s := range r.Forgotten() {
		want.Forgotten = append(want.Forgotten, s.ID)
	}
	write("good/expected.json", toJSON(want))
	for name, v := range brokenVectors(r, k.objects) {
		write("broken/"+name+".json", toJSON(v))
	}
}

// brokenVectors breaks each kind of object in the ways that a disk, a copying
// program or somebody with write access does.
func brokenVectors(r *Repo, objects map[string][]byte) map[string]brokenVector {
	at := func(n int) *int { return &n }
	var data, tree, snapshots, slots []string
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		switch {
		case strings.HasSuffix(name, ".data"):
			data = append(data, name)
		case strings.HasSuffix(name, ".tree"):
			tree = append(tree, name)
		case strings.HasPrefix(name, "snapshots/"):
			snapshots = append(snapshots, name)
		case strings.HasPrefix(name, "keys/"):
			slots = append(slots, name)
		}
	}
	live := r.Snapshots()[0].at.name()
	out := map[string]brokenVector{
		"format-missing":          {"the format file is gone", []edit{{Object: "format", Remove: true}}, "damaged", "format"},
		"format-flipped":          {"a bit of the format file", []edit{{Object: "format", Flip: at(40)}}, "damaged", "format"},
		"format-truncated":        {"half of the format file", []edit{{Object: "format", Truncate: at(20)}}, "damaged", "format"},
		"config-missing":          {"the config is gone", []edit{{Object: "config", Remove: true}}, "damaged", "config"},
		"config-flipped":          {"a bit of the config", []edit{{Object: "config", Flip: at(-30)}}, "damaged", "config"},
		"config-newer":            {"the config of a later format", []edit{{Object: "config", Put: "0200", At: 8}}, "newer", "config"},
		"config-is-a-manifest":    {"a manifest in place of the config", []edit{{Object: "config", CopyOf: live}}, "damaged", "config"},
		"manifest-flipped":        {"a bit of a manifest", []edit{{Object: live, Flip: at(200)}}, "found", live},
		"manifest-truncated":      {"half of a manifest", []edit{{Object: live, Truncate: at(300)}}, "found", live},
		"manifest-empty":          {"a manifest without bytes", []edit{{Object: live, Truncate: at(0)}}, "found", live},
		"manifest-missing":        {"a manifest is gone", []edit{{Object: live, Remove: true}}, "found", live},
		"manifest-replayed":       {"a manifest under the number of another file", []edit{{Object: snapshots[len(snapshots)-1], CopyOf: live}}, "found", snapshots[len(snapshots)-1]},
		"pack-header-flipped":     {"a bit of a data pack's header", []edit{{Object: data[0], Flip: at(50)}}, "found", data[0]},
		"pack-newer":              {"a data pack of a later format", []edit{{Object: data[0], Put: "0200", At: 8}}, "found", data[0]},
		"pack-block-flipped":      {"a bit of a data block", []edit{{Object: data[0], Flip: at(100)}}, "found", data[0]},
		"pack-pad-flipped":        {"a bit of the padding", []edit{{Object: data[0], Flip: at(-(footerSize + TrailerBucket + 2*crypto.Overhead + 2000))}}, "found", data[0]},
		"pack-trailer-flipped":    {"a bit of a trailer", []edit{{Object: data[0], Flip: at(-(footerSize + 40))}}, "found", data[0]},
		"pack-footer-flipped":     {"a bit of a footer", []edit{{Object: data[0], Flip: at(-10)}}, "found", data[0]},
		"pack-truncated":          {"a data pack cut short", []edit{{Object: data[0], Truncate: at(20_000)}}, "found", data[0]},
		"pack-empty":              {"a data pack without bytes", []edit{{Object: data[0], Truncate: at(0)}}, "found", data[0]},
		"pack-swapped":            {"a data pack with the bytes of another", []edit{{Object: data[0], CopyOf: data[1]}}, "found", data[0]},
		"pack-missing":            {"a data pack is gone", []edit{{Object: data[0], Remove: true}}, "found", ""},
		"tree-pack-block-flipped": {"a bit of a tree block", []edit{{Object: tree[0], Flip: at(100)}}, "found", tree[0]},
		"tree-pack-missing":       {"a tree pack is gone", []edit{{Object: tree[0], Remove: true}}, "found", ""},
	}
	var gone, flipped []edit
	for _, s := range slots {
		gone = append(gone, edit{Object: s, Remove: true})
		flipped = append(flipped, edit{Object: s, Flip: at(100)})
	}
	out["slots-flipped"] = brokenVector{"a bit of every key slot", flipped, "damaged", "keys/"}
	out["slots-missing"] = brokenVector{"all key slots are gone", gone, "damaged", "keys"}
	return out
}
