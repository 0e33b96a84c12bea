package repo

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
)

func sortInfos(list []store.Info) {
	slices.SortFunc(list, func(a, b store.Info) int { return strings.Compare(a.Name, b.Name) })
}

// region is a stretch of a pack file.
type region struct {
	from, to int
	block    int // -1 for header, trailer and footer, which the whole pack needs; -2 for the pad
}

// regions takes a pack of an everyKind apart.
func (k *everyKind) regions(t testing.TB, name string) (out []region) {
	t.Helper()
	r, err := Open(t.Context(), &layer{base: k.objects}, []crypto.Credential{testKey}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	id, _, _ := parsePackName(name)
	n, ok := r.catalog.lookup(id)
	if !ok {
		t.Fatal(name)
	}
	e, err := r.reader.pack(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.reader.packs.release(e)
	tr := e.val.trailer
	out = append(out, region{0, headerSize, -1})
	for b := range tr.blocks {
		rec := &tr.blocks[b]
		block := b
		if rec.codec == codecPad {
			block = -2
		}
		out = append(out, region{int(rec.offset), int(rec.offset + rec.sealed), block})
	}
	end := out[len(out)-1].to
	return append(out, region{end, int(tr.size) - footerSize, -1}, region{int(tr.size) - footerSize, int(tr.size), -1})
}

// damage is one way to hurt a repository and what it may cost.
type damage struct {
	what    string
	changed func() map[string][]byte         // made when it is judged: all of them at once are gigabytes
	hurts   func(need map[blockAt]bool) bool // files that may be lost; nil is all
	word    string                           // the key to open with
	silent  bool                             // nothing needs to be found, but all must be read
}

// are is the changed of a damage that takes little memory.
func are(changed map[string][]byte) func() map[string][]byte {
	return func() map[string][]byte { return changed }
}

// judge tells what is wrong with how a damage was met.
func (k *everyKind) judge(d damage) error {
	if d.word == "" {
		d.word = "test"
	}
	read, rep, unnamed, problem := k.inspect(d.changed(), d.word)
	if problem == nil && !d.silent {
		return fmt.Errorf("%s: nobody noticed", d.what)
	}
	if len(unnamed) > 0 {
		return fmt.Errorf("%s: an error that callers can not act on: %w", d.what, unnamed[0])
	}
	if rep == nil {
		if !errors.Is(problem, ErrDamaged) && !errors.Is(problem, ErrNewerFormat) && !errors.Is(problem, ErrNoRepository) && !errors.Is(problem, crypto.ErrWrongKey) {
			return fmt.Errorf("%s: an error that callers can not act on: %w", d.what, problem)
		}
		if d.hurts != nil {
			return fmt.Errorf("%s: nothing can be opened any more: %w", d.what, problem)
		}
		return nil
	}
	for id, files := range k.files {
		for name, want := range files {
			key := id + "/" + name
			got, ok := read[key]
			if ok && !bytes.Equal(got, want) {
				return fmt.Errorf("%s: %s was read with other bytes", d.what, key)
			}
			if !ok && d.hurts != nil && !d.hurts(k.needs[key]) {
				return fmt.Errorf("%s: %s is lost although it needs nothing of it; %v", d.what, key, rep.Findings)
			}
			if !ok && len(rep.DamagedFiles) == 0 && d.hurts != nil {
				return fmt.Errorf("%s: %s can not be read and check names no file: %v", d.what, key, rep.Findings)
			}
		}
	}
	return nil
}

// needing is the hurts of one block; -1 is the pack as such.
func needing(pack string, block int) func(map[blockAt]bool) bool {
	return func(need map[blockAt]bool) bool { return need[blockAt{pack, block}] }
}

func nobody(map[blockAt]bool) bool { return false }

// of returns the files a damaged object may cost when it is no pack.
func (k *everyKind) hurtsOf(name string) func(map[blockAt]bool) bool {
	if strings.HasPrefix(name, "gc/") {
		return nobody
	}
	return nil
}

// flips lists the damage of single bytes: every one, or of the seals a sample.
func (k *everyKind) flips(t testing.TB, all bool) (out []damage) {
	add := func(name string, at int, d damage) {
		d.what = fmt.Sprintf("%s byte %d", name, at)
		d.changed = func() map[string][]byte {
			b := bytes.Clone(k.objects[name])
			b[at] ^= 1 << (at % 8)
			return map[string][]byte{name: b}
		}
		out = append(out, d)
	}
	for name, b := range k.objects {
		switch {
		case strings.HasPrefix(name, "packs/"):
			for _, reg := range k.regions(t, name) {
				step := 1
				switch {
				case reg.block == -2 && !all:
					step = 4001
				case reg.block == -2:
					step = 61
				case reg.to-reg.from > 1000 && !all:
					step = 13
				}
				hurts := needing(name, reg.block)
				if reg.block == -2 {
					hurts = nobody
				}
				for at := reg.from; at < reg.to; at += step {
					add(name, at, damage{hurts: hurts})
				}
			}
		case strings.HasPrefix(name, "keys/"):
			for at := range b {
				add(name, at, damage{word: k.keys[name]})
				// The other key opens all the same.
				other := map[string]string{"test": secondKey, secondKey: "test"}[k.keys[name]]
				if at%8 == 0 || all {
					add(name, at, damage{word: other, hurts: nobody, silent: true})
				}
			}
		default:
			for at := range b {
				add(name, at, damage{hurts: k.hurtsOf(name)})
			}
		}
	}
	return out
}

// cuts lists every truncation at a border and everything with one byte more.
func (k *everyKind) cuts(t testing.TB) (out []damage) {
	for name, b := range k.objects {
		borders := []int{0, 1, len(b) / 2, len(b) - 1}
		d := damage{hurts: k.hurtsOf(name)}
		if strings.HasPrefix(name, "packs/") {
			d.hurts = needing(name, -1)
			for _, reg := range k.regions(t, name) {
				borders = append(borders, reg.from, reg.from+1, reg.to-1)
			}
		} else {
			borders = append(borders, 8, 64, 96, 112)
		}
		if strings.HasPrefix(name, "keys/") {
			d.word = k.keys[name]
		}
		for _, n := range borders {
			if n >= 0 && n < len(b) {
				d.what, d.changed = fmt.Sprintf("%s cut to %d bytes", name, n), are(map[string][]byte{name: b[:n:n]})
				out = append(out, d)
			}
		}
		d.what, d.changed = name+" with a byte more", are(map[string][]byte{name: append(bytes.Clone(b), 0)})
		out = append(out, d)
		d.what, d.changed = name+" missing", are(map[string][]byte{name: nil})
		// A tomb, and the manifest of a forgotten snapshot, go in time anyway.
		at, _ := parsePlace(name)
		d.silent = strings.HasPrefix(name, "gc/") || at == k.forgotten
		out = append(out, d)
	}
	return out
}

// moves lists objects under each other's names, and blocks in each other's
// places.
func (k *everyKind) moves(t testing.TB) (out []damage) {
	kindOf := func(name string) string { return name[:strings.IndexByte(name+"/", '/')] }
	for a, x := range k.objects {
		for b, y := range k.objects {
			if a == b || kindOf(a) != kindOf(b) {
				continue
			}
			d := damage{what: a + " and " + b + " swapped", changed: are(map[string][]byte{a: y, b: x})}
			over := damage{what: a + " over " + b, changed: are(map[string][]byte{b: x})}
			if kindOf(a) == "packs" {
				d.hurts = func(n map[blockAt]bool) bool { return n[blockAt{a, -1}] || n[blockAt{b, -1}] }
				over.hurts = needing(b, -1)
			}
			if kindOf(a) == "keys" {
				over.word = k.keys[b]
			}
			out = append(out, d, over)
		}
		fresh := ""
		switch kindOf(a) {
		case "packs":
			id, kind, _ := parsePackName(a)
			other := id
			other[5] ^= 1
			fresh = packName(other, kind)
			out = append(out, damage{what: a + " copied to the other kind", hurts: nobody,
				changed: are(map[string][]byte{packName(id, 3-kind): x})},
				damage{what: a + " copied to an odd name", hurts: nobody, changed: are(map[string][]byte{"packs/" + id.String()[:2] + "/stray": x})})
			regs := k.regions(t, a)
			for i, p := range regs {
				for _, q := range regs[:i] {
					if p.block >= 0 && q.block >= 0 && p.to-p.from == q.to-q.from {
						c := bytes.Clone(x)
						copy(c[p.from:p.to], x[q.from:q.to])
						copy(c[q.from:q.to], x[p.from:p.to])
						out = append(out, damage{what: fmt.Sprintf("blocks %d and %d of %s swapped", p.block, q.block, a), changed: are(map[string][]byte{a: c}),
							hurts: func(n map[blockAt]bool) bool { return n[blockAt{a, p.block}] || n[blockAt{a, q.block}] }})
					}
				}
			}
		case "snapshots":
			at, _ := parsePlace(a)
			at.seq += 20
			fresh = at.name()
		case "keys":
			fresh = slotName(0xfffffff0)
		case "gc":
			fresh = "gc/" + strings.Repeat("1", 32)
		}
		if fresh != "" {
			d := damage{what: a + " copied to " + fresh, hurts: nobody, changed: are(map[string][]byte{fresh: x})}
			out = append(out, d)
		}
	}
	return out
}

// judgeAll judges on all cores.
func (k *everyKind) judgeAll(t *testing.T, list []damage) {
	t.Helper()
	var wg sync.WaitGroup
	var next, wrong atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(len(list)); i = next.Add(1) {
				if err := k.judge(list[i-1]); err != nil && wrong.Add(1) < 20 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d cases, %d wrong", len(list), wrong.Load())
}

func TestRepoDamage_EveryFlippedByteIsFoundAndConfined(t *testing.T) {
	k := buildEveryKind(t)
	if err := k.judge(damage{what: "nothing", changed: are(nil)}); err == nil {
		t.Error("the sound repository was called damaged")
	}
	k.judgeAll(t, k.flips(t, crashScale() > 1))
}

func TestRepoDamage_EveryCutSwapAndCopyIsFoundAndConfined(t *testing.T) {
	k := buildEveryKind(t)
	k.judgeAll(t, append(k.cuts(t), k.moves(t)...))
}

// Lengths that somebody changed must not make anybody allocate what they say.
func TestRepoDamage_NoFlippedLengthCostsMemory(t *testing.T) {
	k := buildEveryKind(t)
	var before, after runtime.MemStats
	for name, b := range k.objects {
		var at []int
		for i := range min(128, len(b)) {
			at = append(at, i)
		}
		for i := max(0, len(b)-footerSize); i < len(b); i++ {
			at = append(at, i)
		}
		for _, i := range at {
			c := bytes.Clone(b)
			c[i] ^= 0x80
			runtime.ReadMemStats(&before)
			k.inspect(map[string][]byte{name: c}, "test")
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
				t.Errorf("%s byte %d: %d MiB were allocated", name, i, got>>20)
			}
		}
	}
}

// The control: damage that nobody looks for is not found.
func TestRepoDamage_IsNotFoundWithoutReadingTheData(t *testing.T) {
	k := buildEveryKind(t)
	for name, b := range k.objects {
		if !strings.HasSuffix(name, ".data") {
			continue
		}
		regs := k.regions(t, name)
		c := bytes.Clone(b)
		c[regs[1].from] ^= 1
		r, err := Open(t.Context(), &layer{k.objects, map[string][]byte{name: c}}, []crypto.Credential{testKey}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		rep, err := r.Check(t.Context(), CheckOptions{}, &CheckProgress{})
		if err != nil || !rep.Sound() {
			t.Errorf("a check of the tables alone found a flipped byte of a block (%v): then the test above proves nothing about reading", err)
		}
		r.Close()
	}
}
