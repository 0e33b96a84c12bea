package state

import (
	"encoding/binary"
	"io"

	"go.etcd.io/bbolt"
)

// OpenUnsynced opens a state file that acknowledges before its data is durable: what the crash tests must catch.
func OpenUnsynced(path, repository string) (*DB, error) {
	return open(path, repository, settings{noSync: true})
}

// Inspect judges the pages of a file.
func Inspect(file io.ReaderAt, size int64) error { return inspect(file, size) }

// Refine classifies an error of a write.
func Refine(err error) (error, bool) { return refine(err) }

// EncodeJob and DecodeJob are what a job is on disk.
func EncodeJob(key []byte, j *Job) ([]byte, error) { return jobKind.encode(key, j) }

// DecodeJob reads what EncodeJob made.
func DecodeJob(key, value []byte) (*Job, error) { return jobKind.decode(key, value) }

// SealJob gives any text a valid header, as a fuzz target can not find checksums.
func SealJob(version byte, key, text []byte) []byte {
	value := append(make([]byte, recordHeader), text...)
	value[0] = version
	sum := checksum(version, jobKind.bucket, key, text)
	value[1], value[2], value[3], value[4] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	return value
}

// CheckJob brings a job into the shape it is kept in.
func CheckJob(j *Job) error { return j.check() }

// OpenUnjudged leaves what a file holds to bbolt alone.
func OpenUnjudged(path string) error {
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
	if err != nil {
		return err
	}
	return b.Update(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	})
}

// Summary and ReadSummary are a job's entry in the index by time.
func Summary(j *Job) (entry, value []byte) { return timeKey(j.CreatedAt, []byte(j.ID)), j.summary() }

// ReadSummary reads what Summary made.
func ReadSummary(entry, value []byte, j *Job) error { return readSummary(entry, value, j) }

// SealSummary gives any value a valid checksum.
func SealSummary(entry, value []byte) []byte {
	value = append(make([]byte, 4), value...)
	binary.BigEndian.PutUint32(value, summaryChecksum(entry, value))
	return value
}
