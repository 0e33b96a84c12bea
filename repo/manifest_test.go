package repo

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestManifest_ReadsWhatWasWritten(t *testing.T) {
	c := newTestChain(t)
	want := testManifest(testID(1))
	local := *want
	local.CreatedAt = local.CreatedAt.In(time.FixedZone("", 7200))
	s, err := c.as(c.a).snapshot(t.Context(), &local)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(c.read(place{c.a, 1}.name()))); s.Size != want {
		t.Errorf("got size %d, want %d", s.Size, want)
	}
	got, err := readSnapshot(t.Context(), c.st, c.keys, s)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, %v, want\n%+v", got, err, want)
	}
}

// The JSON of version 1 stays as it is.
func TestManifest_JSONIsThatOfTheFormat(t *testing.T) {
	for name, body := range map[string]*chainBody{
		"manifest": {Snapshot: testManifest(testID(1))},
		"forget":   {Prev: hash{0xab}, Forget: &forgetRecord{At: testNow, ID: testID(1), Writer: writerID{1}, Seq: 1, Hash: hash{1}}},
		"lost":     {Prev: hash{0xab}, Forget: &forgetRecord{At: testNow, Writer: writerID{1}, Seq: 2}},
		"undelete": {Prev: hash{0xab}, Undelete: &undeleteRecord{At: testNow, ID: testID(1), Writer: writerID{1}, Seq: 1}},
	} {
		got, err := json.MarshalIndent(body, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", "json", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != strings.TrimSpace(string(want)) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		var again chainBody
		if err := readJSON(want, again.read); err != nil || !reflect.DeepEqual(&again, body) {
			t.Errorf("%s: read as %+v, %v", name, again, err)
		}
	}
}

func TestManifest_RefusesWhatTheFormatDoesNotAllow(t *testing.T) {
	long := strings.Repeat("x", maxTextLength+1)
	for what, change := range map[string]func(*Manifest){
		"no id":              func(m *Manifest) { m.ID = "" },
		"id":                 func(m *Manifest) { m.ID = "backup-1" },
		"type":               func(m *Manifest) { m.Type = "partial" },
		"base":               func(m *Manifest) { m.BaseID = "x" },
		"status":             func(m *Manifest) { m.Status = "failed" },
		"no time":            func(m *Manifest) { m.CreatedAt = time.Time{} },
		"local time":         func(m *Manifest) { m.FinishedAt = m.FinishedAt.In(time.FixedZone("", 3600)) },
		"year":               func(m *Manifest) { m.StartedAt = m.StartedAt.AddDate(9000, 0, 0) },
		"host":               func(m *Manifest) { m.Host = long },
		"host text":          func(m *Manifest) { m.Host = "\xff" },
		"program":            func(m *Manifest) { m.Program = long },
		"tags":               func(m *Manifest) { m.Tags = make([]string, maxTags+1) },
		"empty tag":          func(m *Manifest) { m.Tags = []string{""} },
		"tag":                func(m *Manifest) { m.Tags = []string{long} },
		"no parts":           func(m *Manifest) { m.Parts = nil },
		"parts":              func(m *Manifest) { m.Parts = make([]Part, maxParts+1) },
		"problems":           func(m *Manifest) { m.Problems = make([]Problem, maxProblems+1); m.ProblemCount = 1 << 20 },
		"problem count":      func(m *Manifest) { m.ProblemCount = 0 },
		"problem path":       func(m *Manifest) { m.Problems[0].Path = []byte(long) },
		"problem text":       func(m *Manifest) { m.Problems[0].Text = long },
		"negative":           func(m *Manifest) { m.Totals.BytesNew = -1 },
		"part source":        func(m *Manifest) { m.Parts[0].Source = "" },
		"part source length": func(m *Manifest) { m.Parts[0].Source = long },
		"part kind":          func(m *Manifest) { m.Parts[0].Kind = "Files" },
		"part profile":       func(m *Manifest) { m.Parts[0].Profile = "" },
		"part base":          func(m *Manifest) { m.Parts[0].BaseID = "latest" },
		"part paths":         func(m *Manifest) { m.Parts[0].Paths = make([][]byte, MaxPaths+1) },
		"part path":          func(m *Manifest) { m.Parts[0].Paths = [][]byte{nil} },
		"part patterns":      func(m *Manifest) { m.Parts[0].Exclude = make([]string, maxPatterns+1) },
		"part pattern":       func(m *Manifest) { m.Parts[0].Exclude = []string{long} },
		"part notes":         func(m *Manifest) { m.Parts[0].Notes = make([]string, maxNotes+1) },
		"part note":          func(m *Manifest) { m.Parts[0].Notes = []string{"\xff"} },
		"part root":          func(m *Manifest) { m.Parts[0].Root = nil },
		"part root length":   func(m *Manifest) { m.Parts[0].Root = make([]byte, MaxPageSize+1) },
		"part time":          func(m *Manifest) { m.Parts[1].StartedAt = time.Time{} },
		"part negative":      func(m *Manifest) { m.Parts[1].Counts.BytesRead = -1 },
	} {
		m := testManifest(testID(1))
		change(m)
		if err := m.validate(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	m := testManifest(testID(1))
	m.Parts[0].Root, m.Parts[0].Failed = nil, true
	if err := m.validate(); err != nil {
		t.Errorf("a failed part without a root: %v", err)
	}
}

// No backup is lost at its end for what it has to report.
func TestManifest_FitsWhateverARunReports(t *testing.T) {
	m := testManifest(testID(1))
	text := strings.Repeat("é", maxTextLength) + "\xff"
	m.Host, m.Program = text, text
	m.Tags = append(make([]string, maxTags), text, "b")
	for range maxProblems + 5 {
		m.Problems = append(m.Problems, Problem{Path: []byte(text), Op: text, Text: text})
	}
	for i := range m.Parts {
		m.Parts[i].Notes = append(make([]string, maxNotes+1), text)
		m.Parts[i].Exclude = []string{text}
		m.Parts[i].Source = text
	}
	before, _ := json.Marshal(m)
	f := m.fit()
	if err := f.validate(); err != nil {
		t.Fatal(err)
	}
	if len(f.Problems) != maxProblems || f.ProblemCount != maxProblems+6 {
		t.Errorf("got %d problems of %d", len(f.Problems), f.ProblemCount)
	}
	if len(f.Tags) != 2 || f.Tags[1] != "b" || f.Host != strings.Repeat("é", maxHostLength/2) {
		t.Errorf("got tags %q, host %q", f.Tags, f.Host)
	}
	if after, _ := json.Marshal(m); !bytes.Equal(before, after) {
		t.Error("the caller's manifest was changed")
	}
	c := newTestChain(t)
	if _, err := c.as(c.a).snapshot(t.Context(), m); err != nil {
		t.Error(err)
	}
}

func TestCounts_AddsEveryField(t *testing.T) {
	n := 0
	var a Counts
	fill(reflect.ValueOf(&a).Elem(), &n)
	b := a
	b.Add(a)
	v, w := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range v.NumField() {
		if f := v.Field(i); f.CanInt() && w.Field(i).Int() != 2*f.Int() || f.CanUint() && w.Field(i).Uint() != 2*f.Uint() {
			t.Errorf("%s is not added", v.Type().Field(i).Name)
		}
	}
}

// fuzzBody reads text as the plaintext of a file of the chain, and checks that
// what was read means the same to encoding/json and can be written again.
func fuzzBody(t *testing.T, text []byte, kind sealedKind, seq uint64) {
	b, err := decodeChainBody(text, kind, seq)
	if err != nil {
		return
	}
	asEncodingJSON(t, text, b, new(chainBody))
	again, err := json.Marshal(b)
	if err != nil {
		t.Fatalf("what was read can not be written: %v", err)
	}
	if b2, err := decodeChainBody(again, kind, seq); err != nil || !reflect.DeepEqual(b2, b) {
		t.Fatalf("got %+v, %v, want %+v", b2, err, b)
	}
}

func FuzzManifest(f *testing.F) {
	for _, name := range []string{"manifest"} {
		b, err := os.ReadFile(filepath.Join("testdata", "json", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) { fuzzBody(t, text, sealedManifest, 1) })
}

func FuzzRecord(f *testing.F) {
	for i, name := range []string{"forget", "lost", "undelete"} {
		b, err := os.ReadFile(filepath.Join("testdata", "json", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, i == 2, uint64(2))
	}
	f.Fuzz(func(t *testing.T, text []byte, undelete bool, seq uint64) {
		kind := sealedForget
		if undelete {
			kind = sealedUndelete
		}
		fuzzBody(t, text, kind, seq)
	})
}

// FuzzSealed opens any bytes as a file of each kind: all are refused, since
// nobody can seal.
func FuzzSealed(f *testing.F) {
	keys := testKeys(f)
	files := oneOfEach(f, keys)
	for _, b := range files {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, whole := range files {
			err := openNamed(keys, name, b)
			if (err == nil) != bytes.Equal(b, whole) {
				t.Errorf("%s: got error %v", name, err)
			}
		}
	})
}

func TestParsePlace_HasOneSpelling(t *testing.T) {
	at := place{writerID{0xab}, 42}
	if got, ok := parsePlace(at.name()); !ok || got != at {
		t.Errorf("got %+v, %v", got, ok)
	}
	for _, name := range []string{"", "snapshots/", at.name() + "x", at.name()[1:], strings.ToUpper(at.name()), strings.Replace(at.name(), "-", "--", 1)} {
		if _, ok := parsePlace(name); ok {
			t.Errorf("%q is taken", name)
		}
	}
}
