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
			return nil, &requestError{status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", message: "the body has to be application/json"}
		}
	}
	// One byte more than is allowed is not read by MaxBytesReader, which closes
	// the connection, so that nobody sends the rest of an endless body.
	data, err := io.ReadAll(http.MaxBytesReader(c.w.ResponseWriter, c.r.Body, c.s.o.BodySize))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &requestError{status: http.StatusRequestEntityTooLarge, code: "payload_too_large", message: fmt.Sprintf("a body has %d bytes at most", c.s.o.BodySize)}
	case err != nil:
		return nil, bad("the body did not arrive whole")
	}
	return parseObject(data, true)
}

func parseObject(data []byte, quoted bool) (*object, error) {
	if !utf8.Valid(data) {
		return nil, bad("the body is not UTF-8")
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
		return nil, bad("the body has more than one JSON value")
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
	return nil, bad("the body has to be a JSON object")
}

// parseValue reads one value, with each name of an object once. top notes the
// names of the outermost object.
func parseValue(d *json.Decoder, depth int, top *object) (any, error) {
	if depth > maxDepth {
		return nil, bad(fmt.Sprintf("the body nests deeper than %d", maxDepth))
	}
	token, err := d.Token()
	if err != nil {
		return nil, bad("the body is not JSON")
	}
	switch token {
	case json.Delim('{'):
		m := make(map[string]any)
		for d.More() {
			token, err := d.Token()
			if err != nil {
				return nil, bad("the body is not JSON")
			}
			name, ok := token.(string)
			if !ok {
				return nil, bad("the body is not JSON")
			}
			if _, twice := m[name]; twice {
				return nil, invalid(shortened(name), "stands twice in the body")
			}
			if depth == 0 {
				top.names = append(top.names, name)
			}
			if m[name], err = parseValue(d, depth+1, top); err != nil {
				return nil, err
			}
		}
		if _, err := d.Token(); err != nil {
			return nil, bad("the body is not JSON")
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
			return nil, bad("the body is not JSON")
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
		o.refuse(field, fmt.Sprintf("has more than %d bytes", most))
	case strings.IndexByte(s, 0) >= 0:
		o.refuse(field, "has a zero byte")
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

// whole is a number without a fraction, nil when it is not given. 30.0 is one, as
// some clients know no other numbers.
func (o *object) whole(field string) *int {
	v := o.take(field)
	if v == nil {
		return nil
	}
	n, ok := v.(json.Number)
	if !ok {
		o.refuse(field, "has to be a number")
		return nil
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		o.refuse(field, "has to be a whole number")
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
		o.refuse(field, fmt.Sprintf("has more than %d items", maxItems))
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
			o.refuse(field, fmt.Sprintf("its items have 1 to %d bytes", most))
			return nil
		case strings.IndexByte(s, 0) >= 0:
			o.refuse(field, "has a zero byte")
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
			known := slices.Sorted(maps.Keys(o.taken))
			if len(known) == 0 {
				known = []string{"none"}
			}
			return invalid(shortened(name), "is not a field of this call; there are "+strings.Join(known, ", "))
		}
	}
	return o.err
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
