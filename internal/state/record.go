package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// What a record may hold. A Put beyond it is ErrInvalid.
const (
	// MaxText is the greatest length in bytes of a name, an id and the like.
	MaxText = 1 << 10
	// MaxMessage is the greatest length in bytes of an error message.
	MaxMessage = 16 << 10
	// MaxDocument is the greatest length in bytes of a request, result, report or body.
	MaxDocument = 4 << 20
	// MaxItems is the greatest length of a list of names.
	MaxItems = 1 << 10

	maxKey = 600
	// maxRecord bounds a value: two documents, of which a body grows by a third in base64, and everything else.
	maxRecord = 12 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const recordHeader = 5

// kind is one sort of record: where it lies and how it is written.
type kind[T any] struct {
	bucket  string
	name    string // for errors
	version byte
}

func checksum(version byte, bucket string, key, text []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte{version})
	sum = crc32.Update(sum, castagnoli, []byte(bucket))
	sum = crc32.Update(sum, castagnoli, []byte{0})
	sum = crc32.Update(sum, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, []byte{0})
	return crc32.Update(sum, castagnoli, text)
}

// encode makes the value of a record from one that was checked.
func (k kind[T]) encode(key []byte, record *T) ([]byte, error) {
	var text bytes.Buffer
	text.Write(make([]byte, recordHeader))
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(record); err != nil {
		return nil, invalid("%s: %v", k.name, err)
	}
	value := bytes.TrimSuffix(text.Bytes(), []byte("\n"))
	if len(key) > maxKey || len(value) > maxRecord {
		return nil, invalid("%s: %d bytes below a key of %d are too many", k.name, len(value), len(key))
	}
	value[0] = k.version
	binary.BigEndian.PutUint32(value[1:], checksum(k.version, k.bucket, key, value[recordHeader:]))
	return value, nil
}

// decode reads the value of a record. The record holds no memory of value.
func (k kind[T]) decode(key, value []byte) (*T, error) {
	if len(value) < recordHeader || len(value) > maxRecord {
		return nil, damaged("%s %q: a record of %d bytes", k.name, key, len(value))
	}
	version, text := value[0], value[recordHeader:]
	if binary.BigEndian.Uint32(value[1:]) != checksum(version, k.bucket, key, text) {
		return nil, damaged("%s %q: wrong checksum", k.name, key)
	}
	if version > k.version {
		return nil, &NewerError{What: k.name, Have: int(version), Know: int(k.version)}
	}
	if version == 0 {
		return nil, damaged("%s %q: version 0", k.name, key)
	}
	record := new(T)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(record); err != nil {
		return nil, damaged("%s %q: %v", k.name, key, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, damaged("%s %q: text goes on after the record", k.name, key)
	}
	return record, nil
}

// limits collects the first field of a record that breaks a limit.
type limits struct{ err error }

func (l *limits) refuse(format string, a ...any) {
	if l.err == nil {
		l.err = invalid(format, a...)
	}
}

// id is a text that is a key, or part of one.
func (l *limits) id(field, s string) {
	if s == "" || len(s) > 255 || strings.IndexByte(s, 0) >= 0 {
		l.refuse("%s must have 1 to 255 bytes and no zero byte, not %d bytes", field, len(s))
	}
	l.text(field, s, MaxText)
}

// text must be UTF-8, since JSON would silently write another character for what is not.
func (l *limits) text(field, s string, most int) {
	if len(s) > most {
		l.refuse("%s has %d bytes, more than %d", field, len(s), most)
	}
	if !utf8.ValidString(s) {
		l.refuse("%s is not UTF-8", field)
	}
}

func (l *limits) texts(fields ...string) {
	for i := 0; i < len(fields); i += 2 {
		l.text(fields[i], fields[i+1], MaxText)
	}
}

func (l *limits) list(field string, items []string) {
	if len(items) > MaxItems {
		l.refuse("%s has %d items, more than %d", field, len(items), MaxItems)
	}
	for _, s := range items {
		l.text(field, s, MaxText)
	}
}

// document brings JSON into the shape it is kept in, without insignificant space.
func (l *limits) document(field string, m *json.RawMessage) {
	if len(*m) == 0 {
		*m = nil
		return
	}
	var b bytes.Buffer
	switch {
	case len(*m) > MaxDocument:
		l.refuse("%s has %d bytes, more than %d", field, len(*m), MaxDocument)
	case !utf8.Valid(*m):
		l.refuse("%s is not UTF-8", field)
	default:
		if err := json.Compact(&b, *m); err != nil {
			l.refuse("%s is not JSON: %v", field, err)
			return
		}
		*m = b.Bytes()
	}
}

// times are kept in UTC, without a monotonic part, in the years JSON can write.
func (l *limits) times(times ...*time.Time) {
	for _, t := range times {
		*t = t.Round(0).UTC()
		if y := t.Year(); y < 1 || y > 9999 {
			l.refuse("a time in the year %d", y)
		}
	}
}
