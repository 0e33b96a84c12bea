package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/generalbots/backupd/crypto"
)

// The golden repository was written once by the first version of format 1 and
// is never written again: every release must read it. Below goldenDir,
// good/repo holds its objects, good/key the key file of its first slot and
// good/listing what its snapshots hold; broken/vectors says how to break it,
// and what must be said then.
const goldenDir = "../testdata/format/v1"

const maxGoldenSize = 300 << 10

// goldenObjects reads the good repository.
func goldenObjects(t *testing.T) map[string][]byte {
	t.Helper()
	objects := map[string][]byte{}
	root := filepath.Join(goldenDir, "good", "repo")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil {
			objects[filepath.ToSlash(name)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func goldenKey(t *testing.T) crypto.Credential {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, "good", "key"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := crypto.KeyFileCredential(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// listingOf says what the snapshots of a repository hold, a line a file.
func listingOf(t *testing.T, r *Repo) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "repository %v pack-size %d\n", r.ID(), r.Config().PackSize)
	for _, p := range r.Config().Profiles {
		fmt.Fprintf(&b, "profile %s %d %d %+v\n", p.Name, p.ID, p.Algorithm, p.Chunker)
	}
	for state, list := range map[string][]*Snapshot{"live": r.Snapshots(), "forgotten": r.Forgotten()} {
		for _, s := range list {
			fmt.Fprintf(&b, "snapshot %s %s %s %s\n", s.ID, state, s.Type, s.Host)
			files, err := readFiles(t.Context(), r, s)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
				fmt.Fprintf(&b, "file %s %s %d %x\n", s.ID, name, len(files[name]), sha256.Sum256(files[name]))
			}
		}
	}
	lines := strings.SplitAfter(b.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// makeGolden writes the golden repository, unless there is one.
func makeGolden(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(goldenDir, "good")); err == nil {
		return
	}
	k := buildEveryKind(t)
	write := func(name string, b []byte) {
		path := filepath.Join(goldenDir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range k.objects {
		write("good/repo/"+name, b)
	}
	sum := crypto.Sum256([]byte("test"))
	write("good/key", fmt.Appendf(nil, "backupd-key-v1 %x\n", sum))
	r := openTestRepo(t, &layer{base: k.objects}, Options{})
	defer r.Close()
	write("good/listing", []byte(listingOf(t, r)))
	write("broken/vectors", []byte(k.brokenVectors(t, r)))
}

// brokenVectors lists ways to break an everyKind.
func (k *everyKind) brokenVectors(t *testing.T, r *Repo) string {
	var b strings.Builder
	b.WriteString("# Each vector: a name, edits of good/repo, and what must be said of it.\n" +
		"#   flip OBJECT OFFSET MASK    offsets below zero count from the end\n" +
		"#   cut OBJECT SIZE · remove OBJECT · put OBJECT HEX · copy FROM TO · swap A B\n" +
		"#   want open SENTINEL         opening fails with that error\n" +
		"#   want check OBJECT WORDS    a check with every byte read names the object with these words\n")
	vector := func(name string, lines ...string) {
		fmt.Fprintf(&b, "\nvector %s\n%s\n", name, strings.Join(lines, "\n"))
	}
	newer := appendChecksum(fmt.Appendf(nil, "%sversion %d\nid %v\n", formatTitle, 2, r.id))
	vector("a format of a later version", fmt.Sprintf("put format %x", newer), "want open newer")
	vector("a format whose id was altered", "flip format 35 1", "want open damaged")
	vector("no format", "remove format", "want open damaged")
	vector("a config of a later version", "flip config 8 3", "want open newer")
	vector("a config that was altered", "flip config 200 1", "want open damaged")
	vector("no config", "remove config", "want open damaged")
	vector("a config cut short", "cut config 300", "want open damaged")
	for slot, word := range k.keys {
		if word == "test" {
			vector("the slot of the key was altered", "flip "+slot+" -20 1", "want open wrong-key")
			vector("the slot of the key is missing", "remove "+slot, "want open wrong-key")
		} else {
			vector("another slot is cut short", "cut "+slot+" 30", "want check "+slot+" "+ErrDamaged.Error())
		}
	}
	var data, tree []string
	for _, kind := range []packKind{kindData, kindTree} {
		for _, n := range r.catalog.all(kind) {
			info := r.catalog.info(n)
			if kind == kindData {
				data = append(data, packName(info.id, kind))
			} else {
				tree = append(tree, packName(info.id, kind))
			}
		}
	}
	slices.Sort(data)
	slices.Sort(tree)
	is := func(pack string) string { return "want check " + pack + " " + ErrDamaged.Error() }
	for what, at := range map[string]int{"magic": 0, "kind": 10, "profile": 11, "key epoch": 12, "repository id": 16, "pack id": 32, "writer": 48} {
		vector("a pack of another "+what, fmt.Sprintf("flip %s %d 4", data[0], at), is(data[0]))
	}
	vector("a pack of a later version", "flip "+data[0]+" 8 2", "want check "+data[0]+" "+ErrNewerFormat.Error())
	vector("a footer of a later version", "flip "+tree[0]+" -12 2", "want check "+tree[0]+" "+ErrNewerFormat.Error())
	vector("a footer with another length", "flip "+data[1]+" -15 16", is(data[1]))
	vector("a footer with a reserved byte", "flip "+data[1]+" -10 1", is(data[1]))
	vector("a trailer that was altered", "flip "+tree[0]+" -2000 1", is(tree[0]))
	vector("a block that was altered", "flip "+data[0]+" 70 128", is(data[0]))
	vector("a pad that was altered", "flip "+data[0]+" 40000 1", is(data[0]))
	vector("a pack cut short", "cut "+data[1]+" 65000", is(data[1]))
	vector("an empty pack", "cut "+data[1]+" 0", is(data[1]))
	vector("two packs swapped", "swap "+data[0]+" "+data[1], is(data[0]))
	id, _, _ := parsePackName(data[0])
	vector("a data pack as a tree pack", "copy "+data[0]+" "+packName(id, kindTree), is(packName(id, kindTree)))
	id[0] ^= 0xff
	vector("a pack under another name", "copy "+data[0]+" "+packName(id, kindData), is(packName(id, kindData)))
	w := k.forgotten.writer
	name := func(seq uint64) string { return place{w, seq}.name() }
	vector("a manifest that was altered", "flip "+name(1)+" 200 1", "want check "+name(1)+" "+ErrDamaged.Error())
	vector("a manifest of a later version", "flip "+name(2)+" 8 2", "want check "+name(2)+" "+ErrNewerFormat.Error())
	vector("a manifest of a kind to come", "flip "+name(2)+" 10 7", "want check "+name(2)+" "+ErrNewerFormat.Error())
	vector("a manifest under another number", "copy "+name(2)+" "+name(7), "want check "+name(7)+" "+ErrDamaged.Error())
	vector("two manifests swapped", "swap "+name(1)+" "+name(2), "want check "+name(2)+" "+ErrDamaged.Error())
	vector("a manifest cut short", "cut "+name(1)+" 400", "want check "+name(1)+" "+ErrDamaged.Error())
	vector("a manifest is missing", "remove "+name(2), "want check "+name(2))
	vector("a forget record that was altered", "flip "+name(4)+" -1 1", "want check "+name(4)+" "+ErrDamaged.Error())
	vector("an undelete record that was altered", "flip "+name(6)+" -1 1", "want check "+name(6)+" "+ErrDamaged.Error())
	vector("a stray file among snapshots", "copy config snapshots/stray", "want check snapshots/stray "+ErrDamaged.Error())
	for object := range k.objects {
		if strings.HasPrefix(object, "gc/") {
			vector("a tomb that was altered", "flip "+object+" 300 1", "want check "+object+" "+ErrDamaged.Error())
			vector("a tomb under another name", "copy "+object+" gc/other", "want check gc/other "+ErrDamaged.Error())
		}
	}
	return b.String()
}

// edit applies one line of a vector to changed, on top of the good objects.
func edit(objects, changed map[string][]byte, fields []string) error {
	get := func(name string) []byte {
		if b, ok := changed[name]; ok {
			return bytes.Clone(b)
		}
		return bytes.Clone(objects[name])
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(fields[i])
		return n
	}
	b := get(fields[1])
	switch fields[0] {
	case "flip":
		at := number(2)
		if at < 0 {
			at += len(b)
		}
		if at < 0 || at >= len(b) {
			return fmt.Errorf("%v: out of %d bytes", fields, len(b))
		}
		b[at] ^= byte(number(3))
	case "cut":
		b = append(make([]byte, 0, 1), b[:number(2)]...)
	case "remove":
		b = nil
	case "put":
		var err error
		if b, err = hex.DecodeString(fields[2]); err != nil {
			return err
		}
	case "copy":
		changed[fields[2]] = b
	case "swap":
		b, changed[fields[2]] = get(fields[2]), b
	default:
		return fmt.Errorf("%v: no edit", fields)
	}
	changed[fields[1]] = b
	return nil
}

func TestRepoGolden_EveryReleaseReadsVersion1(t *testing.T) {
	if *update {
		makeGolden(t)
	}
	objects := goldenObjects(t)
	size := 0
	for _, b := range objects {
		size += len(b)
	}
	if size > maxGoldenSize {
		t.Errorf("the golden repository has %d bytes, more than %d", size, maxGoldenSize)
	}
	want, err := os.ReadFile(filepath.Join(goldenDir, "good", "listing"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), &layer{base: objects}, []crypto.Credential{goldenKey(t)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := listingOf(t, r); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Every kind of object and of block is in it.
	seen := map[string]bool{}
	for name := range objects {
		seen[strings.SplitN(name, "/", 2)[0]] = true
	}
	if err := r.eachTrailer(t.Context(), r.catalog.all(0), func(_ uint32, tr *trailer) error {
		for i := range tr.blocks {
			seen[fmt.Sprintf("%v %v", tr.header.kind, tr.blocks[i].codec)] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"format", "config", "keys", "packs", "snapshots", "gc", "data stored", "data zstd", "data delta", "data pad", "tree pad", "tree delta"} {
		if !seen[kind] {
			t.Errorf("there is no %s in the golden repository", kind)
		}
	}
	mustBeSound(t, r)
}

func TestRepoGolden_EachBrokenVectorIsRefused(t *testing.T) {
	if *update {
		makeGolden(t)
	}
	objects, key := goldenObjects(t), goldenKey(t)
	text, err := os.ReadFile(filepath.Join(goldenDir, "broken", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	sentinels := map[string]error{"damaged": ErrDamaged, "newer": ErrNewerFormat, "wrong-key": crypto.ErrWrongKey, "none": ErrNoRepository}
	vectors := 0
	name, changed := "", map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		switch fields[0] {
		case "vector":
			name, changed = line[len("vector "):], map[string][]byte{}
		default:
			if err := edit(objects, changed, fields); err != nil {
				t.Fatal(err)
			}
		case "want":
			vectors++
			r, err := Open(t.Context(), &layer{objects, changed}, []crypto.Credential{key}, Options{})
			if fields[1] == "open" {
				if !errors.Is(err, sentinels[fields[2]]) {
					t.Errorf("%s: got %v, want %s", name, err, fields[2])
				}
				if err == nil {
					r.Close()
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: open: %v", name, err)
				continue
			}
			rep, err := r.Check(context.Background(), CheckOptions{ReadData: true}, &CheckProgress{})
			words := strings.Join(fields[3:], " ")
			if err != nil || !slices.ContainsFunc(rep.Findings, func(f Finding) bool {
				return f.Object == fields[2] && strings.Contains(f.Text, words)
			}) {
				t.Errorf("%s: got %v (%v), want %s named with %q", name, rep.Findings, err, fields[2], words)
			}
			r.Close()
		}
	}
	if vectors < 40 {
		t.Errorf("got %d vectors, want 40 and more", vectors)
	}
}
