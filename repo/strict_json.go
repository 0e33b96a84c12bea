package repo

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxJSONKeys bounds the keys of one object.
const maxJSONKeys = 32

// jsonReader reads JSON text of a known shape. It is there because
// encoding/json forgives what a format must not: repeated keys, keys in other
// cases, null, invalid UTF-8, lists without end. And because opening a
// repository reads every manifest: it takes a third of the time.
//
// The text is what encoding/json writes: that is where the other direction
// is. White space between tokens is fine; escapes in keys are not. The first
// error stays, and everything after it does nothing.
type jsonReader struct {
	text []byte
	at   int
	err  error
}

// readJSON reads one value with nothing behind it.
func readJSON(text []byte, read func(*jsonReader)) error {
	if !utf8.Valid(text) {
		return errors.New("the JSON is not UTF-8")
	}
	r := jsonReader{text: text}
	read(&r)
	if r.err == nil && r.peek() != 0 {
		r.fail("something stands behind it")
	}
	return r.err
}

func (r *jsonReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("JSON at byte %d: %s", r.at, fmt.Sprintf(format, args...))
	}
}

// peek returns the first byte of the next token, 0 at the end.
func (r *jsonReader) peek() byte {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		case 0:
			r.fail("a zero byte")
			return 1
		default:
			return c
		}
	}
	return 0
}

// take consumes the byte c if it is next.
func (r *jsonReader) take(c byte) bool {
	if r.err != nil || r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *jsonReader) expect(c byte) {
	if !r.take(c) {
		r.fail("%q is expected", c)
	}
}

// object reads an object. field reads the value of a key, or returns false
// when there is no such key.
func (r *jsonReader) object(field func(key []byte) bool) {
	r.expect('{')
	if r.take('}') {
		return
	}
	var seen [maxJSONKeys][]byte
	for n := 0; r.err == nil; n++ {
		key, _ := r.quoted()
		r.expect(':')
		if r.err != nil {
			return
		}
		if n == maxJSONKeys {
			r.fail("more than %d keys", maxJSONKeys)
			return
		}
		for _, k := range seen[:n] {
			if bytes.Equal(k, key) {
				r.fail("the key %q stands twice", key)
				return
			}
		}
		seen[n] = key
		if !field(key) {
			r.fail("the key %q is unknown", key)
		}
		if !r.take(',') {
			r.expect('}')
			return
		}
	}
}

// array reads an array of at most limit elements.
func (r *jsonReader) array(limit int, element func()) {
	r.expect('[')
	if r.take(']') {
		return
	}
	for n := 0; r.err == nil; n++ {
		if n == limit {
			r.fail("more than %d elements", limit)
			return
		}
		element()
		if !r.take(',') {
			r.expect(']')
			return
		}
	}
}

// quoted returns what stands between quotes, and whether it has escapes.
func (r *jsonReader) quoted() (b []byte, escaped bool) {
	r.expect('"')
	if r.err != nil {
		return nil, false
	}
	start := r.at
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[start : r.at-1], escaped
		case c == '\\':
			escaped = true
			r.at++
		case c < ' ':
			r.fail("a control character in a string")
			return nil, false
		}
		r.at++
	}
	r.at = len(r.text)
	r.fail("the end in a string")
	return nil, false
}

func (r *jsonReader) string() string {
	b, escaped := r.quoted()
	if !escaped {
		return string(b)
	}
	var s string
	if err := json.Unmarshal(r.text[r.at-len(b)-2:r.at], &s); err != nil {
		r.fail("a string that is not one: %v", err)
	}
	return s
}

// plain returns a string that can not have escapes.
func (r *jsonReader) plain() []byte {
	b, escaped := r.quoted()
	if escaped {
		r.fail("an escape where none belongs")
	}
	return b
}

// bytes reads bytes in base64. An empty string is nil.
func (r *jsonReader) bytes() []byte {
	b := r.plain()
	if len(b) == 0 {
		return nil
	}
	out, err := base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(b))), b)
	if err != nil {
		r.fail("not base64")
	}
	return out
}

func (r *jsonReader) time() (t time.Time) {
	if err := t.UnmarshalText(r.plain()); err != nil {
		r.fail("not a time of RFC 3339")
	}
	return t
}

// into reads a string with the unmarshaler of its type.
func (r *jsonReader) into(v encoding.TextUnmarshaler) {
	b := r.plain()
	if r.err != nil {
		return
	}
	if err := v.UnmarshalText(b); err != nil {
		r.fail("%v", err)
	}
}

func (r *jsonReader) bool() bool {
	r.peek()
	rest := r.text[r.at:]
	switch {
	case r.err != nil:
	case bytes.HasPrefix(rest, []byte("true")):
		r.at += len("true")
		return true
	case bytes.HasPrefix(rest, []byte("false")):
		r.at += len("false")
	default:
		r.fail("true or false is expected")
	}
	return false
}

// uint reads a whole number of at most the given bits.
func (r *jsonReader) uint(bits int) uint64 {
	r.peek()
	start := r.at
	for r.at < len(r.text) && r.text[r.at]-'0' < 10 {
		r.at++
	}
	digits := r.text[start:r.at]
	n, err := strconv.ParseUint(string(digits), 10, bits)
	if err != nil || len(digits) > 1 && digits[0] == '0' {
		r.fail("a whole number of %d bits is expected", bits)
		return 0
	}
	return n
}

// size reads a number of bytes, which is not negative.
func (r *jsonReader) size() int64 { return int64(r.uint(63)) }
