package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// doc is a shape for trying jsonReader on.
type doc struct {
	ID   string `json:"id"`
	N    uint64 `json:"n"`
	B    bool   `json:"b"`
	Raw  []byte `json:"raw"`
	List []doc  `json:"list"`
}

func (d *doc) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "id":
			d.ID = r.string()
		case "n":
			d.N = r.uint(64)
		case "b":
			d.B = r.bool()
		case "raw":
			d.Raw = r.bytes()
		case "list":
			r.array(3, func() {
				d.List = append(d.List, doc{})
				d.List[len(d.List)-1].read(r)
			})
		default:
			return false
		}
		return true
	})
}

func TestReadJSON_RefusesWhatEncodingJSONForgives(t *testing.T) {
	for text, want := range map[string]string{
		``:                           "'{' is expected",
		`[]`:                         "'{' is expected",
		`null`:                       "'{' is expected",
		`{"id":"a"} {}`:              "behind",
		`{"id":"a"}x`:                "behind",
		"{\"id\":\"a\"}\x00":         "zero byte",
		`{"id":"a","id":"b"}`:        `the key "id" stands twice`,
		`{"ID":"a"}`:                 `the key "ID" is unknown`,
		`{"i\u0064":"a"}`:            "is unknown",
		`{"other":1}`:                `the key "other" is unknown`,
		`{"id":null}`:                `'"' is expected`,
		`{"list":null}`:              "'[' is expected",
		"{\"id\":\"\xff\"}":          "UTF-8",
		"{\"id\":\"\n\"}":            "control character",
		`{"id":"\x"}`:                "a string that is not one",
		`{"id":"a"`:                  "'}' is expected",
		`{"id":"a",}`:                `'"' is expected`,
		`{"id":"a`:                   "the end in a string",
		`{"id":"a\`:                  "the end in a string",
		`{"id":"a\"`:                 "the end in a string",
		`{"n":01}`:                   "whole number",
		`{"n":-1}`:                   "whole number",
		`{"n":1.0}`:                  "'}' is expected",
		`{"n":1e3}`:                  "'}' is expected",
		`{"n":18446744073709551616}`: "whole number",
		`{"n":"1"}`:                  "whole number",
		`{"b":1}`:                    "true or false",
		`{"b":truex}`:                "'}' is expected",
		`{"raw":"YR=="}`:             "not base64",
		`{"raw":"YQ"}`:               "not base64",
		`{"raw":"Y\u0051=="}`:        "an escape",
		`{"list":[{},{},{},{}]}`:     "more than 3 elements",
		`{"list":[{},]}`:             "'{' is expected",
		`{"list":[{}}`:               "']' is expected",
	} {
		var d doc
		if err := readJSON([]byte(text), d.read); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", text, err, want)
		}
	}
	var many strings.Builder
	for i := range maxJSONKeys + 1 {
		fmt.Fprintf(&many, `,"k%d":1`, i)
	}
	err := readJSON([]byte("{"+many.String()[1:]+"}"), func(r *jsonReader) {
		r.object(func([]byte) bool { r.uint(8); return true })
	})
	if err == nil || !strings.Contains(err.Error(), "more than 32 keys") {
		t.Errorf("many keys: got error %v", err)
	}
}

func TestReadJSON_ReadsWhatIsThere(t *testing.T) {
	const text = " {\"id\" : \"{\\\"id\\\",[\\u003c\u00e4\" ,\"list\":[{\"id\":\"\",\"b\":true},\n{\"n\":18446744073709551615,\"raw\":\"YQ==\"}, {}],\"b\":false}\t"
	want := doc{ID: `{"id",[<ä`, List: []doc{{B: true}, {N: 1<<64 - 1, Raw: []byte("a")}, {}}}
	var got doc
	if err := readJSON([]byte(text), got.read); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// fill sets every field of a struct, and of the structs in it, to something
// that no other field has.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(testNow.Add(time.Duration(*n) * time.Millisecond)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(fmt.Appendf(nil, "bytes %d", *n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(*n+i)%255 + 1)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d <é>", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*n))
	case reflect.Int64:
		v.SetInt(1<<62 + int64(*n))
	default:
		panic("no way to fill a " + v.Type().String())
	}
}

func TestReaders_KnowEveryFieldThatIsWritten(t *testing.T) {
	n := 0
	var body, gotBody chainBody
	fill(reflect.ValueOf(&body).Elem(), &n)
	var h, gotHead head
	fill(reflect.ValueOf(&h).Elem(), &n)
	for _, tc := range []struct {
		want, got any
		read      func(*jsonReader)
	}{
		{&body, &gotBody, gotBody.read},
		{&h, &gotHead, gotHead.read},
	} {
		text, err := json.Marshal(tc.want)
		if err != nil {
			t.Fatal(err)
		}
		if err := readJSON(text, tc.read); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("got\n%+v\nwant\n%+v", tc.got, tc.want)
		}
	}
}

// asEncodingJSON checks that what a reader took means the same to
// encoding/json: v is what was read, fresh an empty value of its type.
func asEncodingJSON(t *testing.T, text []byte, v, fresh any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(fresh); err != nil {
		t.Fatalf("encoding/json refuses what was read: %v\n%s", err, text)
	}
	got, _ := json.Marshal(v)
	want, _ := json.Marshal(fresh)
	got = bytes.ReplaceAll(got, []byte("null"), []byte("[]")) // no list and an empty one are the same
	want = bytes.ReplaceAll(want, []byte("null"), []byte("[]"))
	if !bytes.Equal(got, want) {
		t.Fatalf("read as\n%s\nencoding/json reads\n%s", got, want)
	}
}
