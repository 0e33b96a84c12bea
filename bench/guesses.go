package main

import (
	"archive/zip"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// guess is a change between two backups that says how good the guess is that new data is like what stood in its place.
type guess struct {
	name, what string
	// write makes the data in an empty directory: as they were, or as they are a day later.
	write func(ctx context.Context, o options, dir string, later bool) error
}

var guesses = []guess{
	{"random", "dump, 1 % of its rows rewritten at random", rows(func(d *dump) { d.turn() })},
	{"hot", "dump, 1 % of its rows rewritten in hot ranges", rows(func(d *dump) { d.where = inHotRanges; d.turn() })},
	{"front", "dump, 1 % more rows in front", ordered(func(list []int) []int {
		more := make([]int, 0, len(list)+len(list)/100)
		for i := range len(list) / 100 {
			more = append(more, 1<<30+i)
		}
		return append(more, list...)
	})},
	{"swapped", "dump, its halves swapped", ordered(func(list []int) []int { return append(slices.Clone(list[len(list)/2:]), list[:len(list)/2]...) })},
	{"shuffled", "dump, pieces of 1 MB shuffled", ordered(func(list []int) []int {
		pieces := slices.Collect(slices.Chunk(list, 1_000_000/rowBytes))
		rand.New(rand.NewPCG(5, 5)).Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		return slices.Concat(pieces...)
	})},
	{"sorted", "dump, its rows in another order", ordered(func(list []int) []int {
		list = slices.Clone(list)
		rand.New(rand.NewPCG(6, 6)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	})},
	{"other", "dump, every row another", ordered(func(list []int) []int {
		for i := range list {
			list[i] += 1 << 30
		}
		return list
	})},
	{"gzip", "dump through gzip, 1 % of its rows rewritten", func(_ context.Context, o options, dir string, later bool) error {
		return create(filepath.Join(dir, "messages.sql.gz"), func(w io.Writer) error {
			d := newDump(o.dumpMB, anywhere)
			if later {
				d.turn()
			}
			z := gzip.NewWriter(w)
			return errors.Join(d.to(z, upTo(d.rows())), z.Close())
		})
	}},
	{"noise", "file that can not be compressed, rewritten", func(_ context.Context, o options, dir string, later bool) error {
		return create(filepath.Join(dir, "volume"), func(w io.Writer) error {
			_, err := io.CopyN(w, rand.NewChaCha8([32]byte{7: map[bool]byte{true: 1}[later]}), int64(o.dumpMB)*1_000_000)
			return err
		})
	}},
	{"mbox", "mail spool, 2 % appended", func(_ context.Context, o options, dir string, later bool) error {
		return create(filepath.Join(dir, "mbox"), func(w io.Writer) error {
			n := mails(o)
			if later {
				n += n / 50
			}
			for i := range n {
				if _, err := w.Write(mail(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{"maildir", "maildir, 2 % new, 5 % renamed by flags", func(_ context.Context, o options, dir string, later bool) error {
		n := mails(o)
		if later {
			n += n / 50
		}
		r := rand.New(rand.NewPCG(8, 8))
		for i := range n {
			name := fmt.Sprintf("%02d/cur/%d.M%06dP77.host:2,", i%40, 1_700_000_000+i, i)
			if r.IntN(20) == 0 && later {
				name += "S"
			}
			name = filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, mail(i), 0o600)); err != nil {
				return err
			}
		}
		return nil
	}},
	{"office", "office documents, 3 % of them edited", func(_ context.Context, o options, dir string, later bool) error {
		for i := range o.dumpMB * 8 {
			name := filepath.Join(dir, fmt.Sprintf("team%02d/report-%04d.docx", i%20, i))
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				return err
			}
			edited := later && i%33 == 0
			if err := create(name, func(w io.Writer) error { return document(w, i, edited) }); err != nil {
				return err
			}
		}
		return nil
	}},
	{"sqlite", "SQLite file, 1 % of its rows updated at random", func(ctx context.Context, o options, dir string, later bool) (err error) {
		s, err := beginSQLite(ctx, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		if later {
			if err := s.nextDay(ctx); err != nil {
				return err
			}
		}
		return s.write(ctx, filepath.Join(dir, "messages.db"))
	}},
	{"image", "image of a virtual machine, 1 % of its pages written", func(_ context.Context, o options, dir string, later bool) error {
		m, name := newImage(2*o.dumpMB), filepath.Join(dir, "disk.img")
		err := m.write(name)
		if err != nil || !later {
			return err
		}
		pages, err := m.rewrite(name + ".pages")
		if err != nil {
			return err
		}
		return errors.Join(pages.swap(name), os.Remove(pages.other))
	}},
	{"tree", "synthetic source tree, its next version", func(_ context.Context, o options, dir string, later bool) error {
		s := synthetic{files: o.dumpMB * 60}
		if later {
			s.version = 1
		}
		return s.write(dir)
	}},
}

// rows is a dump, turned.
func rows(turn func(*dump)) func(context.Context, options, string, bool) error {
	return func(ctx context.Context, o options, dir string, later bool) error {
		d := newDump(o.dumpMB, anywhere)
		if later {
			turn(d)
		}
		return d.write(ctx, filepath.Join(dir, "messages.sql"))
	}
}

// ordered is a dump whose rows come in another order later.
func ordered(later func([]int) []int) func(context.Context, options, string, bool) error {
	return func(_ context.Context, o options, dir string, isLater bool) error {
		d := newDump(o.dumpMB, anywhere)
		list := upTo(d.rows())
		if isLater {
			list = later(list)
		}
		return create(filepath.Join(dir, "messages.sql"), func(w io.Writer) error { return d.to(w, list) })
	}
}

// to writes some rows; those that are not in the table are of version 0.
func (d *dump) to(w io.Writer, list []int) error {
	var line []byte
	for _, i := range list {
		version := uint64(0)
		if i < len(d.versions) {
			version = uint64(d.versions[i])
		}
		line = row(line[:0], uint64(i), version)
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func create(name string, fill func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(fill(w), w.Flush(), f.Close())
}

// mails is how many messages there are: half as many bytes as a dump has.
func mails(o options) int { return o.dumpMB * 1_000_000 / (2 * 12 * rowBytes) }

// mail is one message of a spool, 3 KB on average.
func mail(i int) []byte {
	r := rand.New(rand.NewPCG(uint64(i), 25))
	b := fmt.Appendf(nil, "From bot@example.org Thu Jan  1 00:00:00 2026\nMessage-ID: <%x@example.org>\nTo: user%d@example.org\nSubject: %s %s\n\n", r.Uint64(), r.IntN(500), stems[r.IntN(len(stems))], stems[r.IntN(len(stems))])
	for range 2 + r.IntN(20) {
		b = row(b, r.Uint64()>>20, uint64(i))
	}
	return append(b, '\n')
}

// document is a text processor's file: a zip of XML, with the picture all documents of a team have. Edited, one
// paragraph is another.
func document(w io.Writer, i int, edited bool) error {
	z := zip.NewWriter(w)
	r := rand.New(rand.NewPCG(uint64(i), 31))
	part := func(name string, write func(io.Writer) error) error {
		f, err := z.Create(name)
		if err != nil {
			return err
		}
		return write(f)
	}
	text := func(w io.Writer) error {
		paragraphs := 40 + r.IntN(400)
		for n := range paragraphs {
			version := uint64(i)
			if edited && n == paragraphs/3 {
				version++
			}
			b := row([]byte("<w:p><w:pPr><w:pStyle w:val=\"BodyText\"/></w:pPr><w:r><w:t>"), uint64(n), version<<8)
			if _, err := w.Write(append(b, "</w:t></w:r></w:p>"...)); err != nil {
				return err
			}
		}
		return nil
	}
	styles := func(w io.Writer) error {
		for n := range 300 {
			if _, err := fmt.Fprintf(w, "<w:style w:type=\"paragraph\" w:styleId=\"%s%d\"><w:basedOn w:val=\"%s\"/></w:style>", stems[n%len(stems)], n, stems[n*7%len(stems)]); err != nil {
				return err
			}
		}
		return nil
	}
	picture := func(w io.Writer) error {
		_, err := io.CopyN(w, rand.NewChaCha8([32]byte{byte(i % 20)}), 60_000)
		return err
	}
	return errors.Join(part("word/styles.xml", styles), part("word/document.xml", text), part("word/media/image1.png", picture), z.Close())
}
