package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
)

// daily is a database whose dump is backed up every day.
type daily interface {
	// nextDay changes rows and adds some.
	nextDay(ctx context.Context) error
	// write makes the dump anew under a name.
	write(ctx context.Context, name string) error
	// rows is how many there are now.
	rows() int
	// close ends what was started and removes what it left.
	close() error
}

// dumpKinds are the rows of dumps: what each is, and how it begins.
var dumpKinds = []struct {
	row, what, file string
	begin           func(ctx context.Context, o options) (daily, error)
}{
	{"dump", "a text dump, 1 % of the rows rewritten at random a day", "messages.sql",
		func(_ context.Context, o options) (daily, error) { return newDump(o.dumpMB, anywhere), nil }},
	{"dump-hot", "a text dump, 1 % of the rows rewritten a day, nearly all of them in four hot ranges and among the newest", "messages.sql",
		func(_ context.Context, o options) (daily, error) { return newDump(o.dumpMB, inHotRanges), nil }},
	{"dump-sqlite", "a SQLite file, 1 % of its rows updated at random a day", "messages.db", beginSQLite},
	{"dump-postgres", "pg_dump -Fc -Z0 of a PostgreSQL table, 1 % of its rows updated at random a day and vacuumed", "messages.dump", beginPostgres},
	{dumpYear, "a smaller text dump, 1 % of the rows rewritten at random a day", "messages.sql",
		func(_ context.Context, o options) (daily, error) { return newDump(o.yearMB, anywhere), nil }},
	{hotYear, "a smaller text dump, 1 % of the rows rewritten a day, nearly all of them in four hot ranges and among the newest", "messages.sql",
		func(_ context.Context, o options) (daily, error) { return newDump(o.yearMB, inHotRanges), nil }},
}

// table is a table of messages in the order of its key. Each day one row in a hundred is rewritten and one in five
// hundred is added.
type table struct {
	versions []uint16 // of each row
	r        *rand.Rand
	where    func(r *rand.Rand, rows int) int
}

// rowBytes is the average length of a row, so that a size can be turned into a number of rows.
const rowBytes = 281

func newTable(megabytes int, where func(*rand.Rand, int) int) table {
	return table{versions: make([]uint16, megabytes*1_000_000/rowBytes), r: rand.New(rand.NewPCG(97, 1)), where: where}
}

func anywhere(r *rand.Rand, rows int) int { return r.IntN(rows) }

// inHotRanges picks one of four ranges of half a hundredth of the rows or the newest twentieth, and one time in
// twenty any row.
func inHotRanges(r *rand.Rand, rows int) int {
	width := max(1, rows/200)
	switch k := r.IntN(20); {
	case k == 0:
		return r.IntN(rows)
	case k < 12:
		return (k%4*2+1)*rows/9 + r.IntN(width)
	}
	return rows - 1 - r.IntN(max(1, rows/20))
}

// turn is one day. It returns the rows that were rewritten and the first of those that were added.
func (t *table) turn() (rewritten []int, added int) {
	n := len(t.versions)
	for range n / 100 {
		i := t.where(t.r, n)
		t.versions[i]++
		rewritten = append(rewritten, i)
	}
	t.versions = append(t.versions, make([]uint16, n/500)...)
	return rewritten, n
}

func (t *table) rows() int { return len(t.versions) }

// text appends the text of row i as it is now.
func (t *table) text(b []byte, i int) []byte { return row(b, uint64(i), uint64(t.versions[i])) }

// dump is a text dump of the table, as pg_dump writes one: a row a line. The lines are kept, as making one takes longer than
// backing it up.
type dump struct {
	table
	lines [][]byte
	made  []uint16 // the version of each line
}

func newDump(megabytes int, where func(*rand.Rand, int) int) *dump {
	return &dump{table: newTable(megabytes, where)}
}

func (d *dump) nextDay(context.Context) error {
	d.turn()
	return nil
}

func (d *dump) close() error { return nil }

// write makes the file anew, as a dump program does: under another name, then renamed.
func (d *dump) write(_ context.Context, name string) error {
	f, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString("--\n-- PostgreSQL database dump\n--\n\nCOPY public.message_history (id, session_id, role, content, tokens, created_at) FROM stdin;\n")
	for i := range d.versions {
		if i == len(d.lines) {
			d.lines, d.made = append(d.lines, d.text(nil, i)), append(d.made, d.versions[i])
		}
		if d.made[i] != d.versions[i] {
			d.lines[i], d.made[i] = d.text(nil, i), d.versions[i]
		}
		w.Write(d.lines[i])
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
