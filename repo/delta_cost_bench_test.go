package repo

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/generalbots/backupd/internal/store"
)

// costCase is a file and what it became; both have costBlocks blocks.
type costCase struct {
	name      string
	base, now []byte
}

const costBlocks = 16

// costCases are right and wrong guesses of the kinds that files bring.
func costCases() (all []costCase) {
	rng := rand.New(rand.NewPCG(11, 4))
	size := costBlocks * BlockSize
	fill := func(line func() []byte, n int) []byte {
		out := make([]byte, 0, n+4096)
		for len(out) < n {
			out = append(out, line()...)
		}
		return out[:n]
	}
	// edit writes each line anew with a chance of percent in a hundred.
	edit := func(base []byte, percent int, line func() []byte) []byte {
		var out []byte
		for _, l := range bytes.SplitAfter(base, []byte("\n")) {
			if rng.IntN(100) < percent {
				l = line()
			}
			out = append(out, l...)
		}
		return append(out, fill(line, max(0, size-len(out)))...)[:size]
	}
	row := func() []byte { return textRows(rng, 1) }
	rows := fill(row, size)
	for _, percent := range []int{1, 5, 10, 20, 40, 60, 80, 100} {
		all = append(all, costCase{fmt.Sprintf("rows, %d %% changed", percent), rows, edit(rows, percent, row)})
	}
	words := make([]string, 4000)
	for i := range words {
		for range 2 + rng.IntN(8) {
			words[i] += string(rune('a' + min(rng.IntN(26), rng.IntN(26))))
		}
	}
	prose := func() []byte {
		var b bytes.Buffer
		for range 6 + rng.IntN(10) {
			at := rng.IntN(len(words))
			b.WriteString(words[at*at/len(words)] + " ")
		}
		b.WriteByte('\n')
		return b.Bytes()
	}
	text := fill(prose, size)
	object := func() []byte {
		return fmt.Appendf(nil, `{"id":%d,"customer":{"name":%q,"city":%q},"paid":%v,"sum":%d.%02d,"at":"2026-%02d-%02dT%02d:%02d:%02dZ","token":"%016x"}`+"\n",
			rng.IntN(1e7), words[rng.IntN(500)], words[rng.IntN(90)], rng.IntN(2) == 0, rng.IntN(5000), rng.IntN(100), 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24), rng.IntN(60), rng.IntN(60), rng.Uint64())
	}
	objects := fill(object, size)
	// Pages as a database has them: a header, an array of places, free space, cells from the end.
	page := func() []byte {
		p := make([]byte, 4096)
		copy(p, []byte{13, 0, 0, 0, byte(rng.IntN(40)), byte(rng.IntN(16)), byte(rng.IntN(256)), 0})
		at := len(p)
		for i := 0; at > 400; i++ {
			cell := fmt.Appendf(nil, "\x81\x2b%c%c%s%s%d", rng.IntN(256), rng.IntN(256), words[rng.IntN(len(words))], words[rng.IntN(200)], rng.IntN(1e6))
			cell = append(cell, randomChunks(rng, 1, 4, 20)[0]...)
			at -= len(cell)
			copy(p[at:], cell)
			p[8+2*i], p[9+2*i] = byte(at>>8), byte(at)
		}
		return p
	}
	pages := fill(page, size)
	touch := func(percent int) []byte {
		out := bytes.Clone(pages)
		for at := 0; at < size; at += 4096 {
			if rng.IntN(100) < percent {
				copy(out[at+4:], randomChunks(rng, 1, 4, 4)[0])
				copy(out[at+400+rng.IntN(3500):at+4096], randomChunks(rng, 1, 20, 120)[0])
			}
		}
		return out
	}
	for _, percent := range []int{5, 40} {
		all = append(all,
			costCase{fmt.Sprintf("text, %d %% of the lines", percent), text, edit(text, percent, prose)},
			costCase{fmt.Sprintf("JSON, %d %% of the objects", percent), objects, edit(objects, percent, object)},
			costCase{fmt.Sprintf("pages, %d %% of them touched", percent), pages, touch(percent)})
	}
	counters := bytes.Clone(rows)
	for i := 30; i < len(counters); i += 60 {
		counters[i], counters[i+1] = byte('0'+rng.IntN(10)), byte('0'+rng.IntN(10))
	}
	noise := func() []byte { return randomChunks(rng, 1, size, size)[0] }
	return append(all,
		costCase{"a counter in every row", rows, counters},
		costCase{"rows at the front", rows, append(fill(row, 5000), rows...)[:size]},
		costCase{"moved by half the file", rows, slices.Concat(rows[size/2:], rows[:size/2])},
		costCase{"text rewritten", text, fill(prose, size)},
		costCase{"pages rewritten", pages, fill(page, size)},
		costCase{"noise on noise", noise(), noise()},
		costCase{"noise on rows", rows, noise()})
}

// BenchmarkDeltaCost writes the blocks of a file in turn plain and as what the base version allows, which is read and
// decoded from its pack anew each time: processor time of both with the verification, and what they take. Medians over
// the rounds, so that other work on the machine is in both.
func BenchmarkDeltaCost(b *testing.B) {
	for _, c := range costCases() {
		b.Run(c.name, func(b *testing.B) {
			ctx := b.Context()
			st := store.NewMem()
			initTestRepo(b, st, 0)
			r := openTestRepo(b, st, Options{})
			defer r.Close()
			rng := rand.New(rand.NewPCG(1, 1))
			var chunks [][]byte
			for rest := c.base; len(rest) > 0; {
				n := min(len(rest), 32<<10+rng.IntN(64<<10))
				chunks, rest = append(chunks, rest[:n]), rest[n:]
			}
			refs := put(b, r, chunks, nil)
			w, err := r.NewWriter(ctx, WriterOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			var lanes [2]*Lane
			for i := range lanes {
				if lanes[i], err = w.NewLane(); err != nil {
					b.Fatal(err)
				}
			}
			rounds := max(b.N, 3)
			var cost [2][]float64
			var ratio []float64
			var stored [2]int
			for range rounds {
				for way, l := range lanes {
					r.reader.blocks.clear()
					before := processorTime(b)
					n, err := l.costOf(ctx, c.now, refs, way == 1)
					if err != nil {
						b.Fatal(err)
					}
					cost[way] = append(cost[way], (processorTime(b)-before)/float64(len(c.now)))
					stored[way] = n
				}
				n := len(cost[0]) - 1
				ratio = append(ratio, cost[1][n]/cost[0][n])
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(cost[0]), "ns/B-plain")
			b.ReportMetric(median(cost[1]), "ns/B-delta")
			b.ReportMetric(median(ratio), "ratio")
			b.ReportMetric(float64(stored[0])/float64(len(c.now))*100, "%-plain")
			b.ReportMetric(float64(stored[1])/float64(len(c.now))*100, "%-delta")
		})
	}
}

// costOf encodes a file block by block, as a lane does, and returns what it would take.
func (l *Lane) costOf(ctx context.Context, now []byte, base []Ref, delta bool) (stored int, err error) {
	var g Guess
	for at := 0; at < len(now); at += BlockSize {
		p := now[at:min(at+BlockSize, len(now))]
		var payload []byte
		if c := codecStored; !delta || g.Skip(len(p)) {
			payload, _, err = l.enc.plain(p)
		} else {
			var like []Ref
			var where []spot
			off := 0
			for _, r := range base {
				if off+int(r.Len) > at-16<<10 && off < at+len(p)+16<<10 {
					like = append(like, r)
					spots, _ := l.w.r.reader.candidates(ctx, l.kind, &r.ID, anyDepth, nil)
					if len(spots) == 0 {
						return 0, fmt.Errorf("chunk %s is in no pack", r.ID.Short())
					}
					where = append(where, spots[0])
				}
				off += int(r.Len)
			}
			if _, err = l.gather(ctx, like, where); err != nil {
				return 0, err
			}
			n := len(l.dict)
			l.dict = append(l.dict, p...)
			payload, c, err = l.enc.withDictionary(l.dict, n)
			g.note(c == codecDelta, len(p))
		}
		if err != nil {
			return 0, err
		}
		stored += len(payload)
	}
	return stored, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
