package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	boltErrors "go.etcd.io/bbolt/errors"
)

const bucketAbout = "about"

// Its keys, besides that of the anchor.
const (
	aboutSchema     = "schema"
	aboutRepository = "repository"
	aboutClosed     = "closed"
)

// buckets are all of a file of this schema.
var buckets = []string{
	bucketAbout, jobKind.bucket, jobTimes, scheduleKind.bucket, answerKind.bucket, answerTimes, expiryKind.bucket, verificationKind.bucket, deletionKind.bucket,
}

// Tx is a transaction: what it reads is one moment's state, what it writes
// becomes durable as a whole or not at all. It is used by one goroutine, inside
// the function that was given it.
type Tx struct {
	db     *DB
	bolt   *bbolt.Tx
	inside bool // bbolt is at work: a panic now is its own
}

// View runs do with a transaction that only reads. do must not call the DB:
// a write from within could wait for itself.
func (db *DB) View(do func(*Tx) error) error {
	if t := db.trouble.Load(); t != nil && !t.reading {
		return t.err
	}
	tx := &Tx{db: db}
	var refused error
	err := db.guard(tx, func() error {
		return db.bolt.View(func(b *bbolt.Tx) error {
			tx.bolt, tx.inside = b, false
			refused = do(tx)
			tx.inside = true
			return nil
		})
	})
	if refused != nil {
		return refused
	}
	if errors.Is(err, boltErrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Update runs do with a transaction that writes, alone. An error of do undoes
// all of it and is returned. A nil error means that it is durable. do must not
// call the DB.
//
// ErrFull leaves everything as it was; after ErrUncertain and ErrDamaged nothing
// more is written until the file is opened again.
func (db *DB) Update(do func(*Tx) error) error {
	db.write.Lock()
	defer db.write.Unlock()
	if t := db.trouble.Load(); t != nil {
		return t.err
	}
	tx := &Tx{db: db}
	var refused error
	err := db.guard(tx, func() error {
		return db.bolt.Update(func(b *bbolt.Tx) error {
			tx.bolt, tx.inside = b, false
			if refused = do(tx); refused == nil {
				refused = tx.anchor()
			}
			tx.inside = true
			return refused
		})
	})
	if errors.Is(err, ErrDamaged) {
		return err
	}
	if refused != nil {
		return refused
	}
	err, final := refine(err)
	if final {
		db.trouble.CompareAndSwap(nil, &trouble{err: err, reading: true})
	}
	return err
}

// guard stops panics of bbolt and faults of the file at the wall, and lets those
// of the caller pass. After one, nothing inside bbolt can be relied upon.
func (db *DB) guard(tx *Tx, run func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	tx.inside = true
	defer func() {
		if !tx.inside {
			return // a panic of the caller, if it is one, goes on
		}
		if r := recover(); r != nil {
			err = &DamagedError{Path: db.path, What: fmt.Sprint(r)}
			db.trouble.CompareAndSwap(nil, &trouble{err: err})
		}
	}()
	return run()
}

// in runs a piece of work of bbolt.
func (tx *Tx) in(work func()) {
	tx.inside = true
	work()
	tx.inside = false
}

// damage is an error of decoding, with the file it was found in.
func (tx *Tx) damage(err error) error {
	var newer *NewerError
	if err == nil || errors.As(err, &newer) {
		return err
	}
	return &DamagedError{Path: tx.db.path, What: err.Error()}
}

func (tx *Tx) bucket(name string) (b *bbolt.Bucket, err error) {
	tx.in(func() { b = tx.bolt.Bucket([]byte(name)) })
	if b == nil {
		return nil, tx.damage(damaged("no bucket %s", name))
	}
	return b, nil
}

// get returns a value that is valid during the transaction, nil when there is none.
func (tx *Tx) get(bucket string, key []byte) (value []byte, err error) {
	b, err := tx.bucket(bucket)
	if err == nil {
		tx.in(func() { value = b.Get(key) })
	}
	return value, err
}

func (tx *Tx) writable(bucket string) (*bbolt.Bucket, error) {
	if !tx.bolt.Writable() {
		return nil, errors.New("a write in a View")
	}
	return tx.bucket(bucket)
}

func (tx *Tx) put(bucket string, key, value []byte) error {
	b, err := tx.writable(bucket)
	if err == nil {
		tx.in(func() { err = b.Put(key, value) })
	}
	return err
}

// remove takes a key out, if it is there.
func (tx *Tx) remove(bucket string, key []byte) error {
	b, err := tx.writable(bucket)
	if err == nil {
		tx.in(func() { err = b.Delete(key) })
	}
	return err
}

// walk calls each with every key and value of a bucket in order, or in reverse,
// from the key from on (nil: from the end), until each answers false. Both are
// valid during the call only, and each must not write.
func (tx *Tx) walk(bucket string, reverse bool, from []byte, each func(key, value []byte) (bool, error)) error {
	b, err := tx.bucket(bucket)
	if err != nil {
		return err
	}
	var c *bbolt.Cursor
	var key, value []byte
	tx.in(func() {
		c = b.Cursor()
		switch {
		case reverse:
			key, value = c.Last()
		case from == nil:
			key, value = c.First()
		default:
			key, value = c.Seek(from)
		}
	})
	for key != nil {
		more, err := each(key, value)
		if err != nil || !more {
			return err
		}
		tx.in(func() {
			if reverse {
				key, value = c.Prev()
			} else {
				key, value = c.Next()
			}
		})
	}
	return nil
}

// load reads a record, store writes one; a kind knows its bucket.

func load[T any](tx *Tx, k kind[T], key []byte) (*T, error) {
	value, err := tx.get(k.bucket, key)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, ErrNotFound
	}
	record, err := k.decode(key, value)
	return record, tx.damage(err)
}

func store[T any](tx *Tx, k kind[T], key []byte, record *T) error {
	value, err := k.encode(key, record)
	if err != nil {
		return err
	}
	return tx.put(k.bucket, key, value)
}

func all[T any](tx *Tx, k kind[T]) (list []T, err error) {
	err = tx.walk(k.bucket, false, nil, func(key, value []byte) (bool, error) {
		record, err := k.decode(key, value)
		if err == nil {
			list = append(list, *record)
		}
		return err == nil, tx.damage(err)
	})
	return list, err
}

// binding tells whether the file is new, and whether it was closed, and refuses
// one of another repository or a later schema.
func (tx *Tx) binding(repository string) (fresh, closed bool, err error) {
	var about *bbolt.Bucket
	some := false
	tx.in(func() {
		about = tx.bolt.Bucket([]byte(bucketAbout))
		some = tx.bolt.ForEach(func([]byte, *bbolt.Bucket) error { return errors.New("one") }) != nil
	})
	if about == nil {
		if some {
			return false, false, tx.damage(damaged("it does not say what it is"))
		}
		return true, false, nil
	}
	schema, err := tx.get(bucketAbout, []byte(aboutSchema))
	if err != nil {
		return false, false, err
	}
	version, err := strconv.Atoi(string(schema))
	if err != nil || version < 1 {
		return false, false, tx.damage(damaged("schema %q", schema))
	}
	if version > schemaVersion {
		return false, false, &NewerError{What: "state file", Have: version, Know: schemaVersion}
	}
	have, err := tx.get(bucketAbout, []byte(aboutRepository))
	if err != nil {
		return false, false, err
	}
	if !hexID.Match(have) {
		return false, false, tx.damage(damaged("repository %q", have))
	}
	if string(have) != repository {
		return false, false, &OtherRepositoryError{Have: string(have), Want: repository}
	}
	for _, name := range buckets {
		if _, err := tx.bucket(name); err != nil {
			return false, false, err
		}
	}
	mark, err := tx.get(bucketAbout, []byte(aboutClosed))
	return false, string(mark) == "yes", err
}

// found writes the first transaction of a file.
func (tx *Tx) found(repository string) (err error) {
	for _, name := range buckets {
		tx.in(func() { _, err = tx.bolt.CreateBucket([]byte(name)) })
		if err != nil {
			return err
		}
	}
	if err := tx.put(bucketAbout, []byte(aboutSchema), []byte(strconv.Itoa(schemaVersion))); err != nil {
		return err
	}
	if err := tx.put(bucketAbout, []byte(aboutRepository), []byte(repository)); err != nil {
		return err
	}
	return tx.setClosed(false)
}

func (tx *Tx) setClosed(closed bool) error {
	mark := "no"
	if closed {
		mark = "yes"
	}
	return tx.put(bucketAbout, []byte(aboutClosed), []byte(mark))
}

// pages has bbolt examine itself. It works in a goroutine of its own, where
// nobody could stop a fault: inspect has looked before.
func (tx *Tx) pages() (first error) {
	tx.in(func() {
		for err := range tx.bolt.Check() {
			if first == nil {
				first = err
			}
		}
	})
	return first
}

// records decodes everything and compares what is kept twice.
func (tx *Tx) records(ctx context.Context) error {
	if _, err := examine(ctx, tx, scheduleKind); err != nil {
		return err
	}
	if _, err := examine(ctx, tx, expiryKind); err != nil {
		return err
	}
	if _, err := examine(ctx, tx, deletionKind); err != nil {
		return err
	}
	if _, err := examine(ctx, tx, verificationKind); err != nil {
		return err
	}
	if _, err := tx.followed(); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := indexed(ctx, tx, jobKind, jobTimes, func(j *Job) (time.Time, []byte) { return j.CreatedAt, j.summary() }); err != nil {
		return err
	}
	return indexed(ctx, tx, answerKind, answerTimes, func(a *Answer) (time.Time, []byte) { return a.CreatedAt, nil })
}

func examine[T any](ctx context.Context, tx *Tx, k kind[T]) (n int, err error) {
	err = tx.walk(k.bucket, false, nil, func(key, value []byte) (bool, error) {
		n++
		_, err := k.decode(key, value)
		return err == nil, errors.Join(tx.damage(err), context.Cause(ctx))
	})
	return n, err
}

func indexed[T any](ctx context.Context, tx *Tx, k kind[T], times string, entryOf func(*T) (time.Time, []byte)) error {
	records, err := examine(ctx, tx, k)
	if err != nil {
		return err
	}
	err = tx.walk(times, false, nil, func(entry, value []byte) (bool, error) {
		records--
		if len(entry) <= 8 {
			return false, tx.damage(damaged("%s: an entry of %d bytes", times, len(entry)))
		}
		record, err := load(tx, k, entry[8:])
		ok := err == nil
		if ok {
			at, summary := entryOf(record)
			ok = bytes.Equal(timeKey(at, entry[8:]), entry) && bytes.Equal(summary, value)
		}
		if !ok && (err == nil || errors.Is(err, ErrNotFound)) {
			err = tx.damage(damaged("%s: %q leads to no %s it fits", times, entry[8:], k.name))
		}
		return err == nil, errors.Join(err, context.Cause(ctx))
	})
	if err == nil && records != 0 {
		err = tx.damage(damaged("%s: %d %ss are not in it", times, records, k.name))
	}
	return err
}

// timeKey is a key that sorts by time, then by key.
func timeKey(t time.Time, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())), key...)
}
