package repo

import (
	"encoding/binary"
	"fmt"
)

const (
	frameMagic    = 0xfd2fb528
	frameMinBlock = 1 << 10   // least window that a descriptor can say
	frameMaxBlock = 128 << 10 // of a block, RFC 8878 section 3.1.1.2.3
)

// checkFrame tells whether a payload is exactly one zstd frame as FORMAT.md
// allows it, and one that says nothing else of its length than size. The
// decoder would take several frames, and skippable ones between them, for one
// plaintext, and set memory aside for what a header says. Nothing is decoded.
func checkFrame(frame []byte, size int) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: zstd frame: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	if len(frame) < 6 || binary.LittleEndian.Uint32(frame) != frameMagic {
		return bad("it has no header")
	}
	desc, at := frame[4], 5
	if desc&0b0001_1000 != 0 {
		return bad("reserved bits are set")
	}
	if desc&0b0100 != 0 {
		return bad("it has a checksum")
	}
	single := desc&0b0010_0000 != 0
	window := uint64(0)
	if !single {
		base := uint64(1) << (10 + frame[at]>>3)
		window = base + base/8*uint64(frame[at]&7)
		at++
	}
	idBytes := [4]int{0, 1, 2, 4}[desc&3]
	lengthBytes := [4]int{0, 2, 4, 8}[desc>>6]
	if single && lengthBytes == 0 {
		lengthBytes = 1
	}
	if len(frame) < at+idBytes+lengthBytes {
		return bad("its header is cut short")
	}
	for _, b := range frame[at : at+idBytes] {
		if b != 0 {
			return bad("it names a dictionary")
		}
	}
	at += idBytes
	if lengthBytes > 0 {
		var field [8]byte
		copy(field[:], frame[at:at+lengthBytes])
		length := binary.LittleEndian.Uint64(field[:])
		if lengthBytes == 2 {
			length += 256
		}
		if length != uint64(size) {
			return bad("it says %d bytes, %d were recorded", length, size)
		}
		at += lengthBytes
		if single {
			window = length
		}
	}
	if window > MaxChunkSize {
		return bad("its window has %d bytes, at most %d are read", window, MaxChunkSize)
	}
	most := min(frameMaxBlock, int(max(window, frameMinBlock)))
	for plain := 0; ; {
		if len(frame) < at+3 {
			return bad("it is cut short")
		}
		head := uint32(frame[at]) | uint32(frame[at+1])<<8 | uint32(frame[at+2])<<16
		at += 3
		n := int(head >> 3)
		if n > most {
			return bad("a block of %d bytes", n)
		}
		switch head >> 1 & 3 {
		case 0: // raw
			plain += n
			at += n
		case 1: // one byte repeated
			plain += n
			at++
		case 2: // compressed
			at += n
		default:
			return bad("a block of an unknown kind")
		}
		if plain > size {
			return bad("more than the %d bytes that were recorded", size)
		}
		if head&1 != 0 {
			break
		}
	}
	if at > len(frame) {
		return bad("it is cut short")
	}
	if at < len(frame) {
		return bad("%d bytes follow it", len(frame)-at)
	}
	return nil
}
