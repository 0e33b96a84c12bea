package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	defaultBody = 1 << 20
	maxDepth    = 8   // of what a body nests
	maxItems    = 512 // of a list in a body
	maxText     = 4 << 10
	maxWord     = 255 // bytes of a name
)

// object is the body of a request on its way into Go: each field is taken once,
// and end tells of what nobody took. Errors stay with it, the first is told.
type object struct {
	fields map[string]any // what was null is not there
	names  []string       // in the order they came
	taken  map[string]bool
	err    error
}

// object reads the body of a request: a JSON object, nothing, null, or a string
// that holds one of these, as some clients quote what they send.
func (c *call) object() (*object, error) {
	if kind := c.r.Header.Get("Content-Type"); kind != "" {
		t, _, err := mime.ParseMediaType(kind)
		if err != nil || t != "application/json" && !strings.HasSuffix(t, "+json") {
			return nil, &requestError{status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", message: "the body has to be JSON: send it with Content-Type: application/json, or without that header"}
		}
	}
	// One byte more than is allowed is not read by MaxBytesReader, which closes
	// the connection, so that nobody sends the rest of an endless body.
	data, err := io.ReadAll(http.MaxBytesReader(c.w.ResponseWriter, c.r.Body, c.s.o.BodySize))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &requestError{status: http.StatusRequestEntityTooLarge, code: "payload_too_large", message: fmt.Sprintf("the body is longer than the %d bytes it may have; send less", c.s.o.BodySize)}
	case err != nil:
		return nil, bad("the body did not arrive whole; send it again")
	}
	return parseObject(data, true)
}

var (
	errNoJSON   = bad("the body is not JSON; send an object, such as {}, or nothing")
	errNoObject = bad("the body has to be a JSON object, such as {}, or nothing")
)

func parseObject(data []byte, quoted bool) (*object, error) {
	if !utf8.Valid(data) {
		return nil, bad("the body is not text in UTF-8; encode it as that")
	}
	o := &object{fields: make(map[string]any), taken: make(map[string]bool)}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return o, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	value, err := parseValue(d, 0, o)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("the body has more than one JSON value; send one object")
	}
	switch v := value.(type) {
	case nil:
		return o, nil
	case map[string]any:
		for name, value := range v {
			if value == nil {
				delete(v, name)
			}
		}
		o.fields = v
		return o, nil
	case string:
		if quoted {
			return parseObject([]byte(v), false)
		}
	}
	return nil, errNoObject
}

// parseValue reads one value, with each name of an object once. top notes the
// names of the outermost object.
func parseValue(d *json.Decoder, depth int, top *object) (any, error) {
	if depth > maxDepth {
		return nil, bad(fmt.Sprintf("the body nests deeper than the %d levels it may have; send the fields that the call takes", maxDepth))
	}
	token, err := d.Token()
	if err != nil {
		return nil, errNoJSON
	}
	switch token {
	case json.Delim('{'):
		m := make(map[string]any)
		for d.More() {
			token, err := d.Token()
			if err != nil {
				return nil, errNoJSON
			}
			name, ok := token.(string)
			if !ok {
				return nil, errNoJSON
			}
			if _, twice := m[name]; twice {
				return nil, invalid(shortened(name), "stands twice in the body; give it once")
			}
			if depth == 0 {
				top.names = append(top.names, name)
			}
			if m[name], err = parseValue(d, depth+1, top); err != nil {
				return nil, err
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, errNoJSON
		}
		return m, nil
	case json.Delim('['):
		l := []any{}
		for d.More() {
			v, err := parseValue(d, depth+1, top)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, errNoJSON
		}
		return l, nil
	}
	return token, nil
}

// shortened is a name of a stranger's, fit for an answer.
func shortened(name string) string {
	if len(name) <= 80 {
		return name
	}
	return strings.ToValidUTF8(name[:80], "") + "…"
}

func (o *object) refuse(field, message string) {
	if o.err == nil {
		o.err = invalid(field, message)
	}
}

func (o *object) take(field string) any {
	o.taken[field] = true
	return o.fields[field]
}

// text is a string, nil when it is not given.
func (o *object) text(field string, most int) *string {
	v := o.take(field)
	if v == nil {
		return nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		o.refuse(field, "has to be a string")
	case len(s) > most:
		o.refuse(field, fmt.Sprintf("has more than the %d bytes it may have", most))
	case strings.IndexByte(s, 0) >= 0:
		o.refuse(field, "has a zero byte in it; leave that out")
	}
	return &s
}

// flag is true or false, nil when it is not given.
func (o *object) flag(field string) *bool {
	v := o.take(field)
	if v == nil {
		return nil
	}
	b, ok := v.(bool)
	if !ok {
		o.refuse(field, "has to be true or false")
	}
	return &b
}

// word is one of a few, nil when it is not given.
func (o *object) word(field string, words []string) *string {
	v := o.take(field)
	if v == nil {
		return nil
	}
	s, ok := v.(string)
	if !ok || !slices.Contains(words, s) {
		o.refuse(field, "has to be one of "+strings.Join(words, ", "))
	}
	return &s
}

// whole is a number without a fraction, nil when it is not given. 30.0 is one, as
// some clients know no other numbers.
func (o *object) whole(field string, least, most int) *int {
	v := o.take(field)
	if v == nil {
		return nil
	}
	n, _ := v.(json.Number) // "" is no number either
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || f != math.Trunc(f) || f < float64(least) || f > float64(most) {
		o.refuse(field, fmt.Sprintf("has to be a whole number from %d to %d", least, most))
		return nil
	}
	i := int(f)
	return &i
}

// texts is a list of strings, nil when it is not given.
func (o *object) texts(field string, most int) *[]string {
	v := o.take(field)
	if v == nil {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		o.refuse(field, "has to be a list of strings")
		return nil
	}
	if len(l) > maxItems {
		o.refuse(field, fmt.Sprintf("has more than the %d items it may have", maxItems))
		return nil
	}
	out := make([]string, 0, len(l))
	for _, item := range l {
		s, ok := item.(string)
		switch {
		case !ok:
			o.refuse(field, "has to be a list of strings")
			return nil
		case s == "" || len(s) > most:
			o.refuse(field, fmt.Sprintf("has to be a list of strings of 1 to %d bytes", most))
			return nil
		case strings.IndexByte(s, 0) >= 0:
			o.refuse(field, "has a zero byte in it; leave that out")
			return nil
		}
		out = append(out, s)
	}
	return &out
}

// end is the first thing that is wrong with the object.
func (o *object) end() error {
	for _, name := range o.names {
		if !o.taken[name] {
			return invalid(shortened(name), "is not a field of this call; it takes "+known(o.taken))
		}
	}
	return o.err
}

// known is a list of what may be given.
func known(taken map[string]bool) string {
	if len(taken) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(taken)), ", ")
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
