package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxNodes bounds the nodes of a document that is looked at.
const maxNodes = 100_000

// decoder fills a Config from the nodes of a document. It decodes by itself so
// that every error has line and key, and none hides the next.
type decoder struct {
	file   string
	line   map[string]int
	errors Errors
	nodes  int
}

// parse makes the tree of a document; the library's panics and errors stop here.
func parse(file string, text []byte) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, Errors{{File: file, Text: fmt.Sprintf("this is no YAML the parser can stand: %v", r)}}
		}
	}()
	// The library says of these that they are there, and not where.
	if i := bytes.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f }); i >= 0 {
		return nil, Errors{{File: file, Line: 1 + bytes.Count(text[:i], []byte{'\n'}), Text: fmt.Sprintf("this is no text: it holds the control character %#02x", text[i])}}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, Errors{{File: file, Text: "the file is empty"}}
	}
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		var at *yaml.LoadError
		if errors.As(err, &at) {
			line := at.Mark.Line
			if line == 0 {
				line = at.ContextMark.Line
			}
			return nil, Errors{{File: file, Line: line, Text: "this is not YAML: " + at.Message}}
		}
		return nil, Errors{{File: file, Text: "this is not YAML: " + err.Error()}}
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, Errors{{File: file, Text: "the file holds no settings"}}
	}
	return document.Content[0], nil
}

func (d *decoder) refuse(n *yaml.Node, key, format string, a ...any) {
	d.errors = append(d.errors, &Error{File: d.file, Line: n.Line, Key: key, Text: fmt.Sprintf(format, a...)})
}

// plain refuses what a configuration has no use for, some of which makes small files large.
func (d *decoder) plain(n *yaml.Node, key string) bool {
	d.nodes++
	switch {
	case d.nodes > maxNodes:
		if d.nodes == maxNodes+1 {
			d.refuse(n, key, "the file has more than %d values", maxNodes)
		}
		return false
	case n.Kind == yaml.AliasNode:
		d.refuse(n, key, "aliases (*name) are not understood: write the value out")
		return false
	case n.Anchor != "":
		d.refuse(n, key, "anchors (&name) are not understood: write the value where it belongs")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		d.refuse(n, key, "tags (%s) are not understood", n.Tag)
		return false
	}
	return true
}

// describe says what a node is, in words of the file.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool", "!!int", "!!float":
		return shorten(n.Value)
	}
	return strconv.Quote(shorten(n.Value))
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:57], "") + "..."
	}
	return s
}

// value decodes a node into v, which is settable.
func (d *decoder) value(n *yaml.Node, key string, v reflect.Value) {
	if !d.plain(n, key) {
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		d.refuse(n, key, "has no value: give it one or leave it out")
		return
	}
	switch v.Interface().(type) {
	case time.Duration:
		setParsed(d, n, key, v, parseDuration, wantDuration)
		return
	case Size:
		setParsed(d, n, key, v, ParseSize, wantSize)
		return
	case Cores:
		setParsed(d, n, key, v, ParseCores, wantCores)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		d.value(n, key, fresh.Elem())
		v.Set(fresh)
	case reflect.Struct:
		d.section(n, key, v)
	case reflect.Map:
		d.named(n, key, v)
	case reflect.Slice:
		d.list(n, key, v)
	case reflect.String:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			hint := ""
			if n.Kind == yaml.ScalarNode {
				hint = ": put it in quotes"
			}
			d.refuse(n, key, "want text, not %s%s", describe(n), hint)
			return
		}
		if n.Value == "" || strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			d.refuse(n, key, "want text that is not empty and has no control characters, not %q", shorten(n.Value))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" || n.ShortTag() != "!!bool" {
			d.refuse(n, key, "want true or false, not %s", describe(n))
			return
		}
		v.SetBool(n.Value == "true")
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
			d.refuse(n, key, "want a whole number, not %s", describe(n))
			return
		}
		v.SetInt(i)
	default:
		panic("config: no way to decode a " + v.Type().String())
	}
}

func setParsed[T ~int64](d *decoder, n *yaml.Node, key string, v reflect.Value, parse func(string) (T, error), want string) {
	if n.Kind != yaml.ScalarNode {
		d.refuse(n, key, "%s, not %s", want, describe(n))
		return
	}
	value, err := parse(n.Value)
	if err != nil {
		d.refuse(n, key, "%s, not %s", want, describe(n))
		return
	}
	v.SetInt(int64(value))
}

// fields are the keys of a section and the fields they fill.
func fields(t reflect.Type) (names []string, index map[string]int) {
	index = map[string]int{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			names = append(names, name)
			index[name] = i
		}
	}
	return names, index
}

// pairs calls each with the keys of a mapping, each once.
func (d *decoder) pairs(n *yaml.Node, key, want string, each func(name string, k, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, key, "want %s, not %s", want, describe(n))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if !d.plain(k, key) {
			continue
		}
		if k.Kind != yaml.ScalarNode {
			d.refuse(k, key, "a key must be a word, not %s", describe(k))
			continue
		}
		if line := first[k.Value]; line > 0 {
			d.refuse(k, join(key, shorten(k.Value)), "stands here for the second time, the first is in line %d", line)
			continue
		}
		first[k.Value] = k.Line
		each(k.Value, k, value)
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func (d *decoder) section(n *yaml.Node, key string, v reflect.Value) {
	if s, ok := v.Addr().Interface().(defaulter); ok {
		s.setDefaults()
	}
	names, index := fields(v.Type())
	d.pairs(n, key, "a section with "+strings.Join(names, ", "), func(name string, k, value *yaml.Node) {
		field, ok := index[name]
		if !ok {
			hint := ""
			if meant := near(name, names); meant != "" {
				hint = fmt.Sprintf(": did you mean %s?", meant)
			}
			d.refuse(k, join(key, shorten(name)), "unknown key%s (allowed here: %s)", hint, strings.Join(names, ", "))
			return
		}
		d.line[join(key, name)] = k.Line
		d.value(value, join(key, name), v.Field(field))
	})
}

// named decodes a section whose keys are names the user gives.
func (d *decoder) named(n *yaml.Node, key string, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, key, "a section of names", func(name string, k, value *yaml.Node) {
		at := join(key, shorten(name))
		if !validName.MatchString(name) {
			d.refuse(k, at, "%s", wantName)
			return
		}
		d.line[at] = k.Line
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(value, at, element)
		v.SetMapIndex(reflect.ValueOf(name), element)
	})
}

// maxItems bounds a list.
const maxItems = 1000

func (d *decoder) list(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.refuse(n, key, "want a list: [one, two], not %s", describe(n))
		return
	}
	if len(n.Content) > maxItems {
		d.refuse(n, key, "has %d items, more than %d", len(n.Content), maxItems)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		d.line[at] = item.Line
		d.value(item, at, v.Index(i))
	}
}

// refused tells whether a value at key, or inside it, could not be read.
func (d *decoder) refused(key string) bool {
	return slices.ContainsFunc(d.errors, func(e *Error) bool {
		rest, ok := strings.CutPrefix(e.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
