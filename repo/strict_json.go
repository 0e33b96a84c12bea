package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Maxima of a JSON text, so that a small text can not become large in memory.
const (
	maxJSONDepth  = 8
	maxJSONKeys   = 64      // of one object
	maxJSONValues = 1 << 18 // of all arrays and objects together
	// maxJSONObjects bounds the structs a text decodes to, which are larger
	// than the two bytes an empty object takes.
	maxJSONObjects = 8192
)

// decodeStrict reads one JSON object into v, and refuses what encoding/json
// forgives: unknown, repeated and oddly spelled keys, invalid UTF-8, anything
// behind the object.
func decodeStrict(text []byte, v any) error {
	if err := checkJSON(text); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the JSON ends early")
		}
		return err
	}
	if d.InputOffset() != int64(len(text)) {
		return errors.New("something stands behind the JSON object")
	}
	return nil
}

// checkJSON counts and compares what must be known before memory is
// allocated. It sees strings and brackets only: that the rest is JSON is the
// decoder's to say. Keys are of a-z, 0-9 and _, so that one key has one
// spelling.
func checkJSON(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("the JSON is not UTF-8")
	}
	if len(text) == 0 || text[0] != '{' {
		return errors.New("a JSON object is expected")
	}
	type level struct {
		object bool
		key    bool // the next string is a key
		keys   int  // where its keys begin in the list
	}
	var (
		stack   [maxJSONDepth]level
		depth   int
		keys    [][]byte // those of all open objects
		objects int
		values  int
	)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '{', '[':
			if depth == maxJSONDepth {
				return fmt.Errorf("the JSON nests deeper than %d", maxJSONDepth)
			}
			stack[depth] = level{object: c == '{', key: c == '{', keys: len(keys)}
			depth++
			if c == '{' {
				objects++
			}
			values++
		case '}', ']':
			if depth == 0 {
				return errors.New("the JSON closes more than it opens")
			}
			depth--
			keys = keys[:stack[depth].keys]
		case ',':
			values++
			if depth > 0 {
				stack[depth-1].key = stack[depth-1].object
			}
		case '"':
			end := i + 1
			for end < len(text) && text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(text) {
				return errors.New("the JSON ends within a string")
			}
			if depth > 0 && stack[depth-1].key {
				top := &stack[depth-1]
				key := text[i+1 : end]
				if err := checkJSONKey(key, keys[top.keys:]); err != nil {
					return err
				}
				top.key = false
				keys = append(keys, key)
			}
			i = end
		}
		if objects > maxJSONObjects || values > maxJSONValues {
			return fmt.Errorf("the JSON has more than %d objects or %d values", maxJSONObjects, maxJSONValues)
		}
	}
	return nil
}

func checkJSONKey(key []byte, before [][]byte) error {
	for _, c := range key {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return fmt.Errorf("%q is no key", key)
		}
	}
	for _, k := range before {
		if bytes.Equal(k, key) {
			return fmt.Errorf("the key %q stands twice", key)
		}
	}
	if len(before) == maxJSONKeys {
		return fmt.Errorf("an object with more than %d keys", maxJSONKeys)
	}
	return nil
}
