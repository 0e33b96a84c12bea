package main

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// synthetic writes a tree that looks like a kernel's sources to a backup program: files directories
// with the sizes, depth and compressibility (zstd -1: about 5.6) that a real one has. All of it follows from
// the number of files, so two machines measure the same bytes.
//
// Version 1 is the next release: one file in eight has some of its functions changed, one in a
// hundred is new, one in two hundred gone.
type synthetic struct {
	files   int
	version int
}

var stems = strings.Fields(`alloc attach base batch bind bits block bridge buffer bulk bus cache channel chunk class clear clock
	clone close cluster code codec commit config context copy core count cpu create credit crypto cursor data debug decode delay depth desc
	detach device digest disable dma domain drain driver drop dump edge enable encode engine entry epoch error event exit export extent fault
	fence fetch field fill filter find flags flush frame free gate get group guard handle hash head header hold hook host idle index info
	init inode input insert irq key kick label lane latch layer lease level limit line link list load local lock log lookup lower map mark mask
	master match merge message meta mode module mount name next node notify number object offset open option order output owner packet page
	pair parent parse path pause peer pending phase ping pipe place plane poll pool port post power prepare probe process put queue quota
	range rate read ready rebuild recv refill region register relay release remap remove render repair replay reply request reserve reset
	resize resume retry ring root route rule run sample scan schedule scrub section seek segment select send sequence serial set setup shadow
	share shift show signal size slab slice slot snapshot socket sort source space split stage start state stats status step stop store
	stream strip submit suspend swap switch symbol sync table tag target task tear test thread throttle tick timer token touch trace track
	transfer trim trunk tune type unit unlink unlock unmap update upper usage user valid value vector verify view vote wait wake walk watch
	window word work wrap write yield zone`)

var tops = []struct {
	name  string
	share int // of a hundred directories
}{{"drivers", 52}, {"arch", 14}, {"include", 8}, {"fs", 7}, {"net", 7}, {"Documentation", 6}, {"sound", 4}, {"tools", 2}}

// write makes the tree below dir on all cores.
func (s synthetic) write(dir string) error {
	dirs := s.files/24 + 1
	var wg sync.WaitGroup
	errs := make(chan error, 1)
	next := make(chan int)
	for range 4 {
		wg.Go(func() {
			for d := range next {
				if err := s.writeDirectory(dir, d, dirs); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for d := range dirs {
		next <- d
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func seeded(parts ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, parts...)
	return rand.New(rand.NewPCG(h.Sum64(), 0x9e3779b97f4a7c15))
}

func (s synthetic) writeDirectory(root string, d, dirs int) error {
	r := seeded("dir", d)
	share, top := d*100/dirs, ""
	for _, t := range tops {
		if top = t.name; share < t.share {
			break
		}
		share -= t.share
	}
	parts := []string{top}
	for range 1 + r.IntN(2) {
		parts = append(parts, stems[r.IntN(len(stems))])
	}
	name := filepath.Join(append([]string{root}, append(parts, fmt.Sprintf("%s%d", stems[r.IntN(len(stems))], d))...)...)
	if err := os.MkdirAll(name, 0o755); err != nil {
		return err
	}
	words := make([]string, 15) // what this driver talks about all the time
	for i := range words {
		words[i] = stems[r.IntN(len(stems))]
	}
	for i := range 24 {
		if n := d*24 + i; n < s.files {
			if err := s.writeFile(name, n, r.Uint64(), words); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s synthetic) writeFile(dir string, n int, seed uint64, words []string) error {
	fate := seeded("fate", n).IntN(1000)
	when := time.Date(2022, 12, 11, 22, 15, 18, 0, time.UTC)
	changed := false
	if s.version > 0 {
		if fate < 5 {
			return nil // gone
		}
		changed = fate < 130
		if changed {
			when = when.AddDate(0, 2, fate%28)
		}
	}
	w := writer{words: words, r: rand.New(rand.NewPCG(seed, 1))}
	size := int(math.Exp(w.r.NormFloat64()*1.25 + 8.96))
	size = min(max(size, 180), 900_000)
	name := fmt.Sprintf("%s-%s%s", words[w.r.IntN(len(words))], stems[w.r.IntN(len(stems))], extension(n))
	w.fill(seed, size, changed)
	if err := put(filepath.Join(dir, fmt.Sprintf("%d-%s", n%24, name)), w.b.Bytes(), when); err != nil {
		return err
	}
	if s.version > 0 && fate >= 990 {
		w = writer{words: words, r: rand.New(rand.NewPCG(seed, 2))}
		w.fill(seed+1, size, false)
		return put(filepath.Join(dir, fmt.Sprintf("new-%d-%s", n%24, name)), w.b.Bytes(), when)
	}
	return nil
}

func extension(n int) string {
	switch n % 16 {
	case 0, 1, 2, 3, 4:
		return ".h"
	case 5:
		return ".rst"
	case 6:
		return ".dtsi"
	}
	return ".c"
}

func put(name string, text []byte, when time.Time) error {
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return err
	}
	return os.Chtimes(name, when, when)
}

// writer makes C-like text. Each piece follows from its own seed, so that a piece can change alone.
type writer struct {
	b     bytes.Buffer
	r     *rand.Rand
	words []string
}

func (w *writer) word() string {
	if w.r.IntN(12) < 11 {
		return w.words[min(w.r.IntN(len(w.words)), w.r.IntN(len(w.words)))]
	}
	return stems[w.r.IntN(len(stems))]
}

func (w *writer) fill(seed uint64, size int, changed bool) {
	w.b.WriteString("// SPDX-License-Identifier: GPL-2.0-only\n/*\n")
	for piece := uint64(0); w.b.Len() < size; piece++ {
		version := uint64(0)
		if changed && (piece == 1 || (seed>>7+piece)%9 == 0) {
			version = 1
		}
		w.r = rand.New(rand.NewPCG(seed+version<<32, piece))
		switch {
		case piece == 0:
			fmt.Fprintf(&w.b, " * %s %s %s support\n */\n\n#include <linux/%s.h>\n#include <linux/%s.h>\n#include \"%s.h\"\n\n",
				w.word(), w.word(), w.word(), w.word(), w.word(), w.word())
		case w.r.IntN(6) == 0:
			w.table()
		case w.r.IntN(5) == 0:
			w.structure()
		default:
			w.function()
		}
	}
}

func (w *writer) table() {
	prefix := strings.ToUpper(w.word() + "_" + w.word())
	for i := range 4 + w.r.IntN(14) {
		fmt.Fprintf(&w.b, "#define %s_%s\t\t0x%04x\n", prefix, strings.ToUpper(w.word()), i*4+w.r.IntN(4)<<8)
	}
	w.b.WriteByte('\n')
}

func (w *writer) structure() {
	fmt.Fprintf(&w.b, "struct %s_%s {\n", w.word(), w.word())
	kinds := []string{"u32", "u64", "int", "bool", "struct list_head", "spinlock_t", "unsigned long", "void *"}
	for range 3 + w.r.IntN(9) {
		fmt.Fprintf(&w.b, "\t%s %s_%s;\n", kinds[w.r.IntN(len(kinds))], w.word(), w.word())
	}
	w.b.WriteString("};\n\n")
}

func (w *writer) function() {
	object, verb := w.word(), w.word()
	if w.r.IntN(3) == 0 {
		fmt.Fprintf(&w.b, "/*\n * %s the %s of a %s before the %s is %s again.\n */\n", w.word(), w.word(), object, w.word(), w.word())
	}
	fmt.Fprintf(&w.b, "static int %s_%s_%s(struct %s *%s, u32 %s)\n{\n\tstruct %s_%s *priv = to_%s(%s);\n\tint ret;\n\n",
		object, verb, w.word(), object, object, w.word(), object, w.word(), object, object)
	for range 2 + w.r.IntN(9) {
		switch w.r.IntN(7) {
		case 0:
			fmt.Fprintf(&w.b, "\tif (!priv->%s)\n\t\treturn -EINVAL;\n\n", w.word())
		case 1:
			fmt.Fprintf(&w.b, "\tspin_lock(&priv->lock);\n\tpriv->%s_%s = %s;\n\tspin_unlock(&priv->lock);\n", w.word(), w.word(), w.word())
		case 2:
			fmt.Fprintf(&w.b, "\tret = %s_%s(priv, %s);\n\tif (ret < 0) {\n\t\tdev_err(dev, \"%s %s failed: %%d\\n\", ret);\n\t\tgoto out;\n\t}\n", w.word(), w.word(), w.word(), w.word(), w.word())
		case 3:
			fmt.Fprintf(&w.b, "\twritel(0x%x, priv->base + %s_%s);\n", w.r.IntN(1<<12), strings.ToUpper(object), strings.ToUpper(w.word()))
		case 4:
			fmt.Fprintf(&w.b, "\tlist_for_each_entry(%s, &priv->%s_list, node)\n\t\t%s_%s(%s);\n", object, w.word(), object, w.word(), object)
		case 5:
			fmt.Fprintf(&w.b, "\t/* the %s may %s while we %s */\n", w.word(), w.word(), w.word())
		default:
			fmt.Fprintf(&w.b, "\tpriv->%s |= BIT(%d);\n", w.word(), w.r.IntN(32))
		}
	}
	w.b.WriteString("\nout:\n\treturn ret;\n}\n\n")
}
