package repo

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// deltaCases are a stretch of the base version, 3 blocks long, and what the middle of it became.
func deltaCases() []struct {
	name      string
	base, now []byte
} {
	rng := rand.New(rand.NewPCG(6, 1))
	base := textRows(rng, 12_000)[:3*BlockSize]
	rows := func(percent int) []byte {
		var out []byte
		for _, line := range bytes.SplitAfter(base[BlockSize:2*BlockSize], []byte("\n")) {
			if rng.IntN(100) < percent {
				line = textRows(rng, 1)
			}
			out = append(out, line...)
		}
		return out[:min(len(out), BlockSize)]
	}
	pages := bytes.Clone(base[BlockSize : 2*BlockSize])
	for range BlockSize / 4096 / 4 { // in a page of four a row, the page's header, and its end
		at := rng.IntN(BlockSize/4096) * 4096
		for _, stretch := range [][2]int{{0, 8}, {rng.IntN(3800), 150}, {4080, 8}} {
			for i := range stretch[1] {
				pages[at+stretch[0]+i] = byte(rng.Uint32())
			}
		}
	}
	counters := bytes.Clone(base[BlockSize : 2*BlockSize]) // something in every row
	for i := 30; i < len(counters); i += 60 {
		counters[i], counters[i+1] = byte('0'+rng.IntN(10)), byte('0'+rng.IntN(10))
	}
	return []struct {
		name      string
		base, now []byte
	}{{"rows_1%", base, rows(1)}, {"rows_3%", base, rows(3)}, {"rows_10%", base, rows(10)}, {"rows_20%", base, rows(20)}, {"rows_40%", base, rows(40)}, {"rows_60%", base, rows(60)}, {"rows_80%", base, rows(80)}, {"rows_100%", base, rows(100)}, {"pages", base, pages}, {"counters", base, counters}}
}

// BenchmarkDelta compares ways to write a block as a delta, and dictionaries of which more or less stands on either
// side: bytes, processor time to encode and verify, and to decode.
func BenchmarkDelta(b *testing.B) {
	for _, dc := range deltaCases() {
		for _, way := range []struct {
			name   string
			margin int
			encode func(e *blockEncoder, all []byte, dict int) ([]byte, codec, error)
		}{
			{"plain", 0, func(e *blockEncoder, all []byte, dict int) ([]byte, codec, error) { return e.plain(all[dict:]) }},
			{"as it is", 16 << 10, (*blockEncoder).withDictionary},
			{"as it is, no margin", 0, (*blockEncoder).withDictionary},
			{"as it is, 64 KiB margin", 64 << 10, (*blockEncoder).withDictionary},
			{"matches", 16 << 10, func(e *blockEncoder, all []byte, dict int) (_ []byte, _ codec, err error) {
				e.match.find(all, dict)
				if e.alt, err = e.frame.delta(e.alt[:0], all, dict, e.match.found); err != nil {
					return nil, 0, err
				}
				return e.alt, codecDelta, e.verify(e.alt, all[dict:], all[:dict:dict])
			}},
			{"fastest", 16 << 10, searchAt(zstd.SpeedFastest)},
			{"default", 16 << 10, searchAt(zstd.SpeedDefault)},
			{"better", 16 << 10, searchAt(zstd.SpeedBetterCompression)},
		} {
			b.Run(dc.name+"/"+way.name, func(b *testing.B) {
				e, err := newBlockEncoder(LevelFast)
				if err != nil {
					b.Fatal(err)
				}
				// Not where a chunk begins, nor where the same offset is.
				dict := dc.base[BlockSize-way.margin+700 : min(len(dc.base), 2*BlockSize+way.margin+700)]
				all := slices.Concat(dict, dc.now)
				var payload []byte
				var c codec
				spent := func(what string, op func() error) {
					before := processorTime(b)
					for range b.N {
						if err := op(); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric((processorTime(b)-before)/float64(b.N)/float64(len(dc.now)), what)
				}
				spent("ns/B-encode", func() (err error) {
					payload, c, err = way.encode(e, all, len(dict))
					return err
				})
				b.ReportMetric(float64(len(payload))/float64(len(dc.now))*100, "%")
				payload = bytes.Clone(payload)
				if c != codecDelta {
					dict = nil
				}
				spent("ns/B-decode", func() error { return e.verify(payload, dc.now, dict) })
			})
		}
	}
}

func searchAt(l zstd.EncoderLevel) func(e *blockEncoder, all []byte, dict int) ([]byte, codec, error) {
	return func(e *blockEncoder, all []byte, dict int) ([]byte, codec, error) {
		return e.search(&e.delta, l, all[dict:], all[:dict:dict], len(all)-dict)
	}
}

// processorTime is what this process has used so far, in nanoseconds.
func processorTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano())
}
