package repo

import (
	"bytes"
	"fmt"
	"log/slog"

	"github.com/klauspost/compress/zstd"
)

// Blocks hold the new chunks of one stream in order, compressed together.
// What a block is sealed from was decoded again and compared before, because
// encoders have written frames that nobody could read.

const (
	// deltaWindow spans the largest block below BlockSize and the largest
	// dictionary, so that every byte of the dictionary stays in reach.
	deltaWindow = 1 << 20
	// storedAbove is the share of its size (1/storedAbove) a frame must save;
	// below it the block is stored, which reads faster.
	storedAbove = 32
	// noiseAfter: so many blocks in a row that did not compress, and of the next
	// ones a sample of noiseSample bytes is tried first.
	noiseAfter  = 2
	noiseSample = 16 << 10
	// deltaPays: a delta frame above 1/deltaPays of its plaintext is weighed
	// against a plain frame, where that is cheap; elsewhere one above 1/deltaLarge,
	// since most text takes less when it is stored plain.
	deltaPays  = 16
	deltaLarge = 4
	// Of a block that is laid over its dictionary: where less than 1/guessWorth
	// is found there it is stored plain. Blocks below guessSmall cost little
	// to weigh.
	guessWorth = 4
	guessSmall = 16 << 10
)

// blockEncoder turns plaintext into the payload of a block and back. It owns
// its encoders, decoder and buffers; one goroutine at a time.
type blockEncoder struct {
	large        *zstd.Encoder // LevelFast, above plainLargest or distrusted
	strong       *zstd.Encoder
	delta, pages *zstd.Encoder
	plainMatch   *plainMatcher
	match        matcher
	frame        frameWriter
	tried        int // blocks that were laid over a dictionary
	weighed      int // deltas beside which the plain block was compressed, to see which pays
	dec          *blockDecoder
	buf, alt     []byte
	check        []byte
	level        Level
	noise        int // blocks in a row that did not compress
	// distrust is why frames of our own are made no more: one, or a delta of the library's, did not decode to what it
	// was made from, or none came about. What made it would make it again, so that this data could never be backed up; the library takes over.
	distrust error
	log      *slog.Logger
	spoil    func(frame []byte) // nil outside of tests
}

// Level says how hard plain blocks are compressed.
type Level uint8

// The levels of plain blocks. Delta blocks have their own.
const (
	LevelFast    Level = iota // as zstd's fastest, by frameWriter.plain: what a first backup is bound by
	LevelDefault              // zstd default: about 7 % smaller, two thirds slower to compress
)

func newEncoder(l zstd.EncoderLevel, window int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(l),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), // the seal and the chunk ids are stronger
		zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true))
}

func newBlockEncoder(level Level) (*blockEncoder, error) {
	dec, err := newBlockDecoder()
	if err != nil {
		return nil, err
	}
	return &blockEncoder{dec: dec, level: level, log: slog.New(slog.DiscardHandler)}, nil
}

// plain compresses without a dictionary. The payload is valid until the next
// call.
func (e *blockEncoder) plain(p []byte) (payload []byte, c codec, err error) {
	return e.plainAt(e.level, p)
}

func (e *blockEncoder) plainAt(l Level, p []byte) (payload []byte, c codec, err error) {
	if e.noise >= noiseAfter && len(p) > noiseSample {
		// Another place each time, so that a header in front hides nothing.
		at := (len(p) - noiseSample) / 3 * (e.noise & 3)
		pays, err := e.pays(l, p[at:at+noiseSample])
		if err != nil {
			return nil, 0, err
		}
		if !pays {
			e.noise++
			return p, codecStored, nil
		}
	}
	pays, err := e.pays(l, p)
	if err != nil {
		return nil, 0, err
	}
	if !pays {
		e.noise++
		return p, codecStored, nil
	}
	e.noise = 0
	own := e.own(l, p)
	if err := e.verify(e.buf, p, nil); err != nil && own {
		e.doubt(err)
		return e.plainAt(l, p)
	} else if err != nil {
		return nil, 0, err
	}
	return e.buf, codecZstd, nil
}

// pays compresses p into e.buf and tells whether that is worth it.
func (e *blockEncoder) pays(l Level, p []byte) (bool, error) {
	if err := e.compress(l, p); err != nil {
		return false, fmt.Errorf("zstd: %v", err)
	}
	return len(e.buf) < len(p)-len(p)/storedAbove, nil
}

// own tells whether a plain block becomes a frame of our own.
func (e *blockEncoder) own(l Level, p []byte) bool {
	return l == LevelFast && len(p) <= plainLargest && e.distrust == nil
}

// doubt has the library make all frames from here on.
func (e *blockEncoder) doubt(err error) {
	e.distrust = err
	e.log.Warn("a block did not survive its compression and is compressed by other code, as all after it: "+
		"memory or processor may be at fault; please report it if it happens again", "error", err)
}

// caught makes an error of a panic: a daemon must not end because one of a million blocks can not be compressed.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%v", r)
	}
}

func (e *blockEncoder) ownPlain(p []byte) (err error) {
	defer caught(&err)
	if e.plainMatch == nil {
		e.plainMatch = new(plainMatcher)
	}
	if e.buf, err = e.frame.plain(e.plainMatch, e.buf[:0], p); e.spoil != nil {
		e.spoil(e.buf)
	}
	return err
}

func (e *blockEncoder) ownDelta(all []byte, dictLen int) (err error) {
	defer caught(&err)
	if e.alt, err = e.frame.delta(e.alt[:0], all, dictLen, e.match.found); e.spoil != nil {
		e.spoil(e.alt)
	}
	return err
}

func (e *blockEncoder) compress(l Level, p []byte) (err error) {
	if e.own(l, p) {
		err := e.ownPlain(p)
		if err == nil {
			return nil
		}
		e.doubt(err)
	}
	enc, level := &e.large, zstd.SpeedFastest
	if l == LevelDefault {
		enc, level = &e.strong, zstd.SpeedDefault
	}
	if *enc == nil {
		if *enc, err = newEncoder(level, BlockSize); err != nil {
			return err
		}
	}
	e.buf = (*enc).EncodeAll(p, e.buf[:0])
	return nil
}

// withDictionary writes the block that stands behind a dictionary of so many
// bytes as a delta against it, or plain where that is about as small: a
// dictionary ties the block to others, so it has to pay.
func (e *blockEncoder) withDictionary(all []byte, dictLen int) (payload []byte, c codec, err error) {
	e.tried++
	p, dict := all[dictLen:], all[:dictLen:dictLen]
	above := len(p) / deltaLarge
	if len(p) < guessSmall {
		above = len(p) / deltaPays
	}
	if like := e.match.find(all, dictLen); like < len(p)/guessWorth {
		return e.plain(p)
	}
	if len(all) > deltaWindow || e.distrust != nil { // a frame of matches would not reach
		return e.search(&e.delta, zstd.SpeedFastest, p, dict, above)
	}
	if err := e.ownDelta(all, dictLen); err != nil {
		e.doubt(err)
		return e.plain(p)
	}
	return e.weigh(p, dict, above)
}

// page writes a tree page like withDictionary: they are small, and what they have in
// common with others is short.
func (e *blockEncoder) page(p, dict []byte) (payload []byte, c codec, err error) {
	return e.search(&e.pages, zstd.SpeedDefault, p, dict, len(p)/deltaPays)
}

// search has an encoder, which is made when it is first needed, look for
// whatever p and dict have in common.
func (e *blockEncoder) search(enc **zstd.Encoder, level zstd.EncoderLevel, p, dict []byte, above int) (payload []byte, c codec, err error) {
	if *enc == nil {
		if *enc, err = newEncoder(level, deltaWindow); err != nil {
			return nil, 0, fmt.Errorf("zstd: %v", err)
		}
	}
	// Id 0 keeps the frame readable by the reference decoder with a raw
	// dictionary. The stream interface hashes the dictionary once, where
	// EncodeAll after a reset would do so twice.
	e.alt = e.alt[:0]
	if err := (*enc).ResetWithOptions((*sink)(&e.alt), zstd.WithEncoderDictRaw(0, dict)); err != nil {
		return nil, 0, fmt.Errorf("zstd dictionary: %v", err)
	}
	if _, err := (*enc).Write(p); err != nil {
		return nil, 0, fmt.Errorf("zstd: %v", err)
	}
	if err := (*enc).Close(); err != nil {
		return nil, 0, fmt.Errorf("zstd: %v", err)
	}
	return e.weigh(p, dict, above)
}

// weigh chooses between e.alt, the delta of p, and p stored plain, which it
// looks at only for deltas above a size.
func (e *blockEncoder) weigh(p, dict []byte, above int) (payload []byte, c codec, err error) {
	if len(e.alt) > min(above, len(p)-len(p)/storedAbove-1) {
		e.weighed++
		payload, c, err := e.plain(p)
		if err != nil {
			return nil, 0, err
		}
		if len(payload)-len(payload)/4 <= len(e.alt) {
			return payload, c, nil
		}
	}
	if err := e.verify(e.alt, p, dict); err != nil && e.distrust == nil {
		e.doubt(err)
		return e.plain(p)
	} else if err != nil {
		return nil, 0, err
	}
	return e.alt, codecDelta, nil
}

// sink is a slice that is written to.
type sink []byte

func (s *sink) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

func (e *blockEncoder) verify(frame, want, dict []byte) error {
	if cap(e.check) < len(want)+decodeSlack {
		e.check = make([]byte, 0, max(len(want), BlockSize)+decodeSlack)
	}
	got, err := e.dec.decode(e.check[:0], frame, dict, len(want))
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("it decodes to other bytes")
	}
	if err != nil {
		return fmt.Errorf("block did not survive compression, nothing was written (memory or processor at fault?): %v", err)
	}
	return nil
}

// blockDecoder decodes frames; one goroutine at a time.
type blockDecoder struct {
	plain, dict *zstd.Decoder
}

func newBlockDecoder() (*blockDecoder, error) {
	mk := func() (*zstd.Decoder, error) {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxChunkSize),
			zstd.WithDecoderMaxWindow(MaxChunkSize),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %v", err)
		}
		return d, nil
	}
	plain, err := mk()
	if err != nil {
		return nil, err
	}
	dict, err := mk()
	if err != nil {
		return nil, err
	}
	return &blockDecoder{plain: plain, dict: dict}, nil
}

// decodeSlack is room behind the plaintext that the decoder may write over:
// with it the decoder copies in whole words up to the end.
const decodeSlack = 64

// decode appends the plaintext of a frame to dst, which must be exactly size
// bytes long: neither more nor less is accepted, whatever the frame says.
func (d *blockDecoder) decode(dst, frame, dict []byte, size int) ([]byte, error) {
	if err := checkFrame(frame, size); err != nil {
		return nil, err
	}
	if cap(dst)-len(dst) < size+decodeSlack {
		dst = append(make([]byte, 0, len(dst)+size+decodeSlack), dst...)
	}
	// The cap limit makes the decoder fail rather than grow beyond it.
	dst = dst[: len(dst) : len(dst)+size+decodeSlack]
	dec := d.plain
	if dict != nil {
		dec = d.dict
		if err := dec.ResetWithOptions(nil, zstd.WithDecoderDictRaw(0, dict)); err != nil {
			return nil, fmt.Errorf("%w: zstd dictionary: %v", ErrDamaged, err)
		}
	}
	out, err := dec.DecodeAll(frame, dst)
	if err != nil {
		return nil, fmt.Errorf("%w: zstd: %v", ErrDamaged, err)
	}
	if len(out) != len(dst)+size {
		return nil, fmt.Errorf("%w: block decodes to %d bytes, %d were recorded", ErrDamaged, len(out)-len(dst), size)
	}
	return out, nil
}
