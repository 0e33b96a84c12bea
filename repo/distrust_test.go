package repo

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A frame of our own that can not be read is never stored, and does not end the backup either: the same bytes would
// make the same frame in every later one.
func TestBlockEncoder_LibraryTakesOverFromAFrameThatCanNotBeRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	text := textRows(rng, 3000)[:BlockSize-1000]
	dict := append(textRows(rng, 100), text...)
	changed := bytes.Clone(text)
	for range 50 {
		changed[rng.IntN(len(changed))] ^= 1
	}
	for name, spoil := range map[string]func(frame []byte){
		"flipped":   func(frame []byte) { frame[len(frame)/2] ^= 0x10 },
		"cut":       func(frame []byte) { clear(frame[len(frame)-8:]) },
		"a panic":   func(frame []byte) { _ = frame[len(frame)] },
		"no header": func(frame []byte) { clear(frame[:4]) },
	} {
		for _, d := range [][]byte{nil, dict} {
			e, err := newBlockEncoder(LevelFast)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			e.log = slog.New(slog.NewTextHandler(&log, nil))
			spoiled := 0
			e.spoil = func(frame []byte) { spoiled++; spoil(frame) }
			for i := range 3 {
				p, of := changed, codecZstd
				encode := func() ([]byte, codec, error) { return e.plain(p) }
				if d != nil {
					encode = func() ([]byte, codec, error) { return against(e, p, d) }
				}
				payload, c, err := encode()
				if err != nil {
					t.Fatalf("%s: block %d: %v", name, i, err)
				}
				if d != nil && i > 0 {
					of = codecDelta // the library's
				}
				if c != of {
					t.Errorf("%s: block %d has codec %v, want %v", name, i, c, of)
				}
				by := d
				if c == codecZstd {
					by = nil
				}
				got, err := e.dec.decode(nil, payload, by, len(p))
				if err != nil || !bytes.Equal(got, p) {
					t.Fatalf("%s: block %d does not come back: %v", name, i, err)
				}
			}
			if spoiled != 1 {
				t.Errorf("%s: %d frames of our own were made, want one", name, spoiled)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("%s: %d warnings, want one: %s", name, n, log.String())
			}
		}
	}
	// The control: frames that nothing spoils are our own to the end.
	e, err := newBlockEncoder(LevelFast)
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	e.spoil = func([]byte) { made++ }
	for range 3 {
		if _, c, err := against(e, changed, slices.Clone(dict)); err != nil || c != codecDelta {
			t.Fatalf("codec %v, %v", c, err)
		}
	}
	if made != 3 || e.distrust != nil {
		t.Errorf("of three frames %d were our own, distrusted for %v", made, e.distrust)
	}
}
