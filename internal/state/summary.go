package state

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A job's entry in the index by time repeats what listings choose by, so that
// finding fifty jobs among a hundred thousand does not read them all:
//
//	checksum 4 bytes  CRC-32C of the key of the entry and what follows; big endian
//	version  1 byte   1
//	times    2 × 8    StartedAt, FinishedAt: nanoseconds since 1970, big endian; the least integer for none
//	attempts uvarint
//	texts    7 ×      uvarint length, bytes: kind, state, backup, target, schedule, actor, error code
//
// It is no second truth: what is listed is read from the record, and
// [DB.Check] compares the two.
const summaryVersion = 1

// noTime stands for the zero time, and for one that nanoseconds can not say.
const noTime = -1 << 63

func nanoseconds(t time.Time) int64 {
	if y := t.Year(); y < 1700 || y > 2261 {
		return noTime
	}
	return t.UnixNano()
}

func (j *Job) summary() []byte {
	b := make([]byte, 4, 128)
	b = append(b, summaryVersion)
	for _, t := range []time.Time{j.StartedAt, j.FinishedAt} {
		b = binary.BigEndian.AppendUint64(b, uint64(nanoseconds(t)))
	}
	b = binary.AppendUvarint(b, uint64(j.Attempts))
	for _, s := range []string{j.Kind, j.State, j.BackupID, j.Target, j.ScheduleID, j.Actor, j.ErrorCode} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	binary.BigEndian.PutUint32(b, summaryChecksum(timeKey(j.CreatedAt, []byte(j.ID)), b))
	return b
}

func summaryChecksum(entry, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(entry, castagnoli), castagnoli, value[4:])
}

// readSummary fills what an entry of the index tells of a job. One allocation
// holds all its texts.
func readSummary(entry, value []byte, j *Job) error {
	bad := func() error { return damaged("%s: the entry of %q can not be read", jobTimes, entry) }
	if len(entry) <= 8 || len(value) < 21 || binary.BigEndian.Uint32(value) != summaryChecksum(entry, value) || value[4] != summaryVersion {
		return bad()
	}
	value = value[4:]
	var room [512]byte
	text := string(append(append(room[:0], entry[8:]...), value...))
	*j = Job{ID: text[:len(entry)-8], CreatedAt: time.Unix(0, int64(binary.BigEndian.Uint64(entry))).UTC()}
	for i, t := range []*time.Time{&j.StartedAt, &j.FinishedAt} {
		n := int64(binary.BigEndian.Uint64(value[1+8*i:]))
		if n == noTime {
			continue
		}
		// What is never written is damage, or a listing would show what no record can say.
		if *t = time.Unix(0, n).UTC(); nanoseconds(*t) != n {
			return bad()
		}
	}
	rest, texts := value[17:], text[len(entry)-8+17:]
	attempts, n := binary.Uvarint(rest)
	if n <= 0 || attempts > 1<<31 {
		return bad()
	}
	j.Attempts = int(attempts)
	rest, texts = rest[n:], texts[n:]
	for _, s := range []*string{&j.Kind, &j.State, &j.BackupID, &j.Target, &j.ScheduleID, &j.Actor, &j.ErrorCode} {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return bad()
		}
		end := n + int(length)
		*s = texts[n:end]
		rest, texts = rest[end:], texts[end:]
	}
	if len(rest) != 0 {
		return bad()
	}
	return nil
}
