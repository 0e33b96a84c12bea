package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// maxMembers bounds the members of an object and the elements of a list that are
// read from outside.
const maxMembers = 256

// maxDepth bounds nesting.
const maxDepth = 16

var errObject = errors.New("not a JSON object as it must be")

// object is a JSON object of a stranger: its members by exact name, each once.
// encoding/json alone would take the last of two members and fold the case of
// names, and so read something else than the one who signed or checked it.
type object map[string]json.RawMessage

// parseObject reads one object that is all of data.
func parseObject(data []byte) (object, error) {
	if !utf8.Valid(data) || depth(data) > maxDepth {
		return nil, errObject
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errObject
	}
	o := make(object)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errObject
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("member %q stands twice", clean(name, 40))
		}
		if len(o) == maxMembers {
			return nil, errObject
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errObject
		}
		o[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errObject
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errObject
	}
	return o, nil
}

// depth is how deep brackets nest, strings left out. Wrong JSON gives some number.
func depth(data []byte) int {
	deepest, now := 0, 0
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// kind is the first byte of a value: '"', '{', '[', 't', 'f', 'n', or of a number.
func kind(raw json.RawMessage) byte {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return 0
	}
	return raw[0]
}

// has reports whether the member is there and not null.
func (o object) has(name string) bool {
	raw, ok := o[name]
	return ok && kind(raw) != 'n'
}

// text is a member that is a string of 1 to limit bytes.
func (o object) text(name string, limit int) (string, error) {
	var s string
	if kind(o[name]) != '"' || json.Unmarshal(o[name], &s) != nil {
		return "", fmt.Errorf("%s is not a string", name)
	}
	if s == "" || len(s) > limit {
		return "", fmt.Errorf("%s is empty or too long", name)
	}
	return s, nil
}

// seconds is a member that is a whole number of seconds since 1970.
func (o object) seconds(name string) (int64, error) {
	raw := bytes.TrimSpace(o[name])
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 0 || n > maxSeconds || strconv.FormatInt(n, 10) != string(raw) {
		return 0, fmt.Errorf("%s is not a whole number of seconds", name)
	}
	return n, nil
}

// maxSeconds is the year 9999, up to which time.Time encodes.
const maxSeconds = 253402300799

// numericDate is seconds, but takes a fraction too: RFC 7519 allows one, and a
// provider is believed.
func (o object) numericDate(name string) (int64, error) {
	f, err := strconv.ParseFloat(string(bytes.TrimSpace(o[name])), 64)
	if err != nil || !(f >= 0 && f <= maxSeconds) {
		return 0, fmt.Errorf("%s is not a time", name)
	}
	return int64(math.Floor(f)), nil
}

// texts is a member that is a string or a list of strings.
func (o object) texts(name string) ([]string, error) {
	raw := o[name]
	switch kind(raw) {
	case '"':
		s, err := o.text(name, maxText)
		return []string{s}, err
	case '[':
		var list []*string
		if json.Unmarshal(raw, &list) != nil || len(list) > maxMembers {
			return nil, fmt.Errorf("%s is not a list of strings", name)
		}
		texts := make([]string, len(list))
		for i, s := range list {
			if s == nil || len(*s) > maxText {
				return nil, fmt.Errorf("%s is not a list of strings", name)
			}
			texts[i] = *s
		}
		return texts, nil
	}
	return nil, fmt.Errorf("%s is neither a string nor a list of strings", name)
}

// maxText bounds the strings of claims in bytes.
const maxText = 1 << 10
