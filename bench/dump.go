package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
)

// dump is a text dump of a table of messages, as pg_dump writes one: a row a line, in the order of
// its key. Each day one row in a hundred, chosen at random, is rewritten and one in five hundred is added.
type dump struct {
	versions []uint16 // of each row
	r        *rand.Rand
}

// rowBytes is the average length of a row, so that a size can be turned into a number of rows.
const rowBytes = 281

func newDump(megabytes int) *dump {
	return &dump{versions: make([]uint16, megabytes*1_000_000/rowBytes), r: rand.New(rand.NewPCG(97, 1))}
}

// nextDay changes rows and adds some.
func (d *dump) nextDay() {
	n := len(d.versions)
	for range n / 100 {
		d.versions[d.r.IntN(n)]++
	}
	d.versions = append(d.versions, make([]uint16, n/500)...)
}

// write makes the file anew, as a dump program does: under another name, then renamed.
func (d *dump) write(name string) error {
	f, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString("--\n-- PostgreSQL database dump\n--\n\nCOPY public.message_history (id, session_id, role, content, tokens, created_at) FROM stdin;\n")
	var line []byte
	for i, v := range d.versions {
		line = row(line[:0], uint64(i), uint64(v))
		w.Write(line)
	}
	w.WriteString("\\.\n\n--\n-- PostgreSQL database dump complete\n--\n")
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}

var roles = []string{"user", "assistant", "tool"}

// row is the text of one row at one version.
func row(b []byte, i, version uint64) []byte {
	r := rand.New(rand.NewPCG(i, version))
	b = fmt.Appendf(b, "%d\t%08x-%04x-4%03x-a%03x-%012x\t%s\t", 1_000_000+i, i/7*2654435761&0xffffffff, i/7&0xffff, i/7&0xfff, i/7*31&0xfff, i/7*0x9e3779b97f4a&0xffffffffffff, roles[i%3])
	for n := range 12 + r.IntN(32) {
		if n > 0 {
			b = append(b, ' ')
		}
		// Words as people use them, the common ones most, and now and then a name or a number that is nobody else's.
		if r.IntN(14) == 0 {
			b = fmt.Appendf(b, "%x", r.Uint32())
			continue
		}
		first := stems[min(r.IntN(len(stems)), r.IntN(len(stems)))]
		b = append(b, first...)
		if r.IntN(3) == 0 {
			b = append(b, suffixes[r.IntN(len(suffixes))]...)
		}
	}
	return fmt.Appendf(b, "\t%d\t2026-%02d-%02d %02d:%02d:%02d.%06d+00\n", r.IntN(900), 1+i%12, 1+i%28, i/60%24, i%60, r.IntN(60), r.IntN(1_000_000))
}

var suffixes = []string{"ing", "ed", "s", "er", "able", "ment", "ness", "less"}
