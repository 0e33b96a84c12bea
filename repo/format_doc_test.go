package repo

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests hold FORMAT.md against the code: whoever writes a reader of
// their own has nothing else.

const formatDocument = "../FORMAT.md"

// docTable is a table of FORMAT.md.
type docTable struct {
	caption string // the last line above it that is no table
	head    []string
	rows    [][]string
}

func readFormatDocument(t *testing.T) (text string, tables []docTable) {
	t.Helper()
	b, err := os.ReadFile(formatDocument)
	if err != nil {
		t.Fatal(err)
	}
	caption, inside := "", false
	for _, line := range strings.Split(string(b), "\n") {
		if !strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "|--") {
			inside = false
			if line != "" {
				caption = line
			}
			continue
		}
		if strings.HasPrefix(line, "|--") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !inside {
			inside = true
			tables = append(tables, docTable{caption: caption, head: cells})
			continue
		}
		last := &tables[len(tables)-1]
		last.rows = append(last.rows, cells)
	}
	return string(b), tables
}

func tableHeaded(t *testing.T, tables []docTable, head ...string) []docTable {
	t.Helper()
	var found []docTable
	for _, d := range tables {
		if len(d.head) >= len(head) && slices.Equal(d.head[:len(head)], head) {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		t.Fatalf("FORMAT.md has no table headed %q", head)
	}
	return found
}

var quoted = regexp.MustCompile("`([^`]+)`")

func quotedWords(cell string) (words []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		words = append(words, m[1])
	}
	return words
}

// constants are the constants of the packages that make the format, by name;
// those of other packages than repo begin with the package's name.
func constants(t *testing.T) map[string]constant.Value {
	t.Helper()
	c := constantReader{values: map[string]constant.Value{}, exprs: map[string]ast.Expr{}}
	for prefix, dir := range map[string]string{"": ".", "crypto.": "../crypto", "chunker.": "../chunker", "store.": "../internal/store"} {
		eachProductFile(t, dir, func(f *ast.File) {
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.CONST {
					continue
				}
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					for i, name := range v.Names {
						if i < len(v.Values) {
							c.exprs[prefix+name.Name] = v.Values[i]
						}
					}
				}
			}
		})
	}
	for name := range c.exprs {
		c.value(name)
	}
	return c.values
}

func eachProductFile(t *testing.T, dir string, use func(f *ast.File)) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: no files, %v", dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		use(f)
	}
}

// constantReader works out constants that are made of literals and of each
// other; those that are made of anything else are left out.
type constantReader struct {
	values map[string]constant.Value
	exprs  map[string]ast.Expr
}

func (c *constantReader) value(name string) constant.Value {
	if v, ok := c.values[name]; ok {
		return v
	}
	e, ok := c.exprs[name]
	if !ok {
		return constant.MakeUnknown()
	}
	prefix := ""
	if i := strings.IndexByte(name, '.'); i >= 0 {
		prefix = name[:i+1]
	}
	v := c.eval(prefix, e)
	if v.Kind() != constant.Unknown {
		c.values[name] = v
	}
	return v
}

func (c *constantReader) eval(prefix string, e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.Ident:
		return c.value(prefix + e.Name)
	case *ast.ParenExpr:
		return c.eval(prefix, e.X)
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return c.value(x.Name + "." + e.Sel.Name)
		}
	case *ast.CallExpr:
		if x, ok := e.Fun.(*ast.Ident); ok && x.Name == "len" && len(e.Args) == 1 {
			if s := c.eval(prefix, e.Args[0]); s.Kind() == constant.String {
				return constant.MakeInt64(int64(len(constant.StringVal(s))))
			}
		}
	case *ast.BinaryExpr:
		x, y := c.eval(prefix, e.X), c.eval(prefix, e.Y)
		if x.Kind() == constant.Unknown || y.Kind() == constant.Unknown {
			break
		}
		switch e.Op {
		case token.SHL:
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, token.SHL, uint(n))
		case token.QUO:
			return constant.BinaryOp(x, token.QUO_ASSIGN, y)
		default:
			return constant.BinaryOp(x, e.Op, y)
		}
	}
	return constant.MakeUnknown()
}

// notOfTheFormat are constants that are named as maxima are and bound only
// what a process does.
var notOfTheFormat = []string{
	"maxCandidates", "maxDeps", "maxFindings", "maxFreeBuilders", "maxLikePages", "maxOpenDirs", "maxOpenPacks", "maxOpenWalkPages",
	"maxHeadSize", "maxWriters", "maxWriterSize", "chunker.maxEmptyReads",
}

func TestFormatDocument_NamesAllMaximaWithTheirValues(t *testing.T) {
	_, tables := readFormatDocument(t)
	have := constants(t)
	named := map[string]bool{}
	for _, row := range tableHeaded(t, tables, "name", "value", "meaning")[0].rows {
		names, values := quotedWords(row[0]), strings.Split(row[1], " · ")
		if len(names) != len(values) {
			t.Errorf("%v: %d names, %d values", row, len(names), len(values))
			continue
		}
		for i, name := range names {
			named[name] = true
			want, ok := have[name]
			if got := sizeInWords(t, values[i]); !ok || constant.Compare(constant.MakeInt64(got), token.NEQ, want) {
				t.Errorf("%s: FORMAT.md says %s, the code %v", name, values[i], want)
			}
		}
	}
	bound := regexp.MustCompile(`^(\w+\.)?([Mm]ax|[Mm]in)[A-Z]`)
	for name := range have {
		if bound.MatchString(name) && !named[name] && !slices.Contains(notOfTheFormat, name) {
			t.Errorf("%s is not in the table of FORMAT.md", name)
		}
	}
	for _, name := range notOfTheFormat {
		if named[name] {
			t.Errorf("%s is said to be none of the format", name)
		}
	}
}

func sizeInWords(t *testing.T, s string) int64 {
	t.Helper()
	number, unit, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
	shift, ok := map[string]uint{"": 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]
	if err != nil || !ok {
		t.Fatalf("%q is no number", s)
	}
	return n << shift
}

// A table is the drawing of a package comment, or constants.
func TestFormatDocument_ByteTablesAddUpAndAreThoseOfTheCode(t *testing.T) {
	_, tables := readFormatDocument(t)
	have := constants(t)
	caption := regexp.MustCompile(`^\*\*(.+?)\*\*(?:, ([\d,]+) bytes)?`)
	seen := map[string][]drawnField{}
	for _, d := range tableHeaded(t, tables, "offset", "length", "field") {
		m := caption.FindStringSubmatch(d.caption)
		if m == nil {
			t.Fatalf("the table below %q has no name", d.caption)
		}
		at, fixed := 0, true
		for _, row := range d.rows {
			offset, err := strconv.Atoi(row[0])
			if fixed && (err != nil || offset != at) {
				t.Errorf("%s: %s is at %s, want %d", m[1], row[2], row[0], at)
			}
			if !fixed && err == nil {
				t.Errorf("%s: %s has an offset behind a field without a fixed length", m[1], row[2])
			}
			n, err := strconv.Atoi(row[1])
			fixed = fixed && err == nil
			at += n
			seen[m[1]] = append(seen[m[1]], drawnField{offset, row[1], row[2]})
		}
		if m[2] != "" && strconv.Itoa(at) != strings.ReplaceAll(m[2], ",", "") {
			t.Errorf("%s: its fields have %d bytes, its caption %s", m[1], at, m[2])
		}
	}
	for name, want := range map[string]int{
		"Pack header": headerSize, "Pack footer": footerSize, "AAD of a part": aadSize, "Block record": blockRecSize,
		"Sealed file header": sealedHeaderSize, "Key slot": int(intValue(have["crypto.SlotSize"])), "Nonce": int(intValue(have["crypto.nonceSize"])),
	} {
		f := seen[name]
		if len(f) == 0 {
			t.Errorf("%s: no table", name)
			continue
		}
		last, _ := strconv.Atoi(f[len(f)-1].length)
		if got := f[len(f)-1].offset + last; got != want {
			t.Errorf("%s: %d bytes, the code has %d", name, got, want)
		}
	}
	for _, of := range []struct{ table, file, drawing string }{
		{"Pack header", "pack.go", "header, clear"},
		{"Pack footer", "pack.go", "footer, clear"},
		{"AAD of a part", "pack.go", "AAD of a sealed part"},
		{"Block record", "pack.go", "block record"},
		{"Sealed file header", "sealed.go", "header, clear"},
	} {
		if want := readDrawing(t, of.file, of.drawing); !slices.Equal(seen[of.table], want) {
			t.Errorf("%s:\nFORMAT.md %v\n%s %v", of.table, seen[of.table], of.file, want)
		}
	}
	for i, want := range readDrawing(t, "pack.go", "trailer, plaintext")[:4] { // what follows is repeated
		if got := seen["Trailer plaintext"][i]; got != want {
			t.Errorf("trailer: FORMAT.md %v, pack.go %v", got, want)
		}
	}
	for constant, field := range map[string]string{
		"slotAtVersion": "version", "slotAtKind": "kind", "slotAtThreads": "threads", "slotAtLabelLen": "label length", "slotAtTime": "passes",
		"slotAtMemory": "memory", "slotAtEpoch": "key epoch", "slotAtID": "slot id", "slotAtCreated": "created", "slotAtRepo": "repository id",
		"slotAtLabel": "label", "slotAtSalt": "salt", "slotAtCommitment": "commitment", "slotAtSealed": "master key", "slotAtChecksum": "checksum",
	} {
		want := intValue(have["crypto."+constant])
		if !slices.ContainsFunc(seen["Key slot"], func(f drawnField) bool { return f.field == field && int64(f.offset) == want }) {
			t.Errorf("key slot: no field %q at %d", field, want)
		}
	}
}

func intValue(v constant.Value) int64 {
	if v == nil {
		return -1
	}
	n, _ := constant.Int64Val(v)
	return n
}

// drawnField is one field of a structure.
type drawnField struct {
	offset int
	length string
	field  string
}

var drawnLine = regexp.MustCompile(`^\s*(\d+)  (.+?)\s{2,}(\d+)(?:\s|$)`)

// readDrawing reads the fields that a comment draws below a line that begins
// so, up to the next empty one. What stands between quotes or behind a comma
// is the field's value and not its name.
func readDrawing(t *testing.T, file, heading string) (fields []drawnField) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for _, line := range strings.Split(string(b), "\n") {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "//"), "\t")
		switch {
		case strings.HasPrefix(line, " "+heading):
			inside = true
		case inside && line == "" && len(fields) > 0:
			return fields
		case inside:
			if m := drawnLine.FindStringSubmatch(line); m != nil {
				at, _ := strconv.Atoi(m[1])
				name, _, _ := strings.Cut(strings.TrimSpace(regexp.MustCompile(`".*"`).ReplaceAllString(m[2], "")), ",")
				fields = append(fields, drawnField{at, m[3], name})
			}
		}
	}
	t.Fatalf("%s draws no %q", file, heading)
	return nil
}

func TestFormatDocument_ListsTheKeysOfAllJSON(t *testing.T) {
	_, tables := readFormatDocument(t)
	got := map[string][]string{}
	for _, d := range tableHeaded(t, tables, "object", "keys", "value") {
		object := ""
		for _, row := range d.rows {
			if row[0] != "" {
				object = row[0]
			}
			got[object] = append(got[object], quotedWords(row[1])...)
		}
	}
	for object, of := range map[string]any{
		"config": configJSON{}, "profile": profileJSON{}, "tomb": tombBody{}, "body": chainBody{}, "manifest": Manifest{}, "part": Part{},
		"counts": Counts{}, "problem": Problem{}, "forget record": forgetRecord{}, "undelete record": undeleteRecord{},
	} {
		var want []string
		typ := reflect.TypeOf(of)
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			want = append(want, key)
		}
		// The order of keys means nothing.
		list := slices.Sorted(slices.Values(got[object]))
		if slices.Sort(want); !slices.Equal(list, want) {
			t.Errorf("%s: FORMAT.md has %q, the code %q", object, list, want)
		}
		delete(got, object)
	}
	for object := range got {
		t.Errorf("FORMAT.md has a JSON object %q that no type stands for", object)
	}
}

func TestFormatDocument_NumbersKindsAsTheCodeDoes(t *testing.T) {
	text, tables := readFormatDocument(t)
	have := constants(t)
	var list []string
	for k := sealedConfig; k <= sealedTomb; k++ {
		list = append(list, fmt.Sprintf("%d %v", k, k))
	}
	for _, want := range []string{
		strings.Join(list, ", "),
		fmt.Sprintf("%d %v, %d %v, %d %v, %d %v", codecStored, codecStored, codecZstd, codecZstd, codecDelta, codecDelta, codecPad, codecPad),
		fmt.Sprintf("%d %v, %d %v; that of the name", kindData, kindData, kindTree, kindTree),
		fmt.Sprintf("%d block, %d pad, %d trailer", partBlock, partPad, partTrailer),
		"`" + packMagic + "`", "`" + footerMagic + "`", "`" + sealedMagic + "`",
		"`" + constant.StringVal(have["crypto.slotMagic"]) + "`",
		"`" + constant.StringVal(have["crypto.slotContext"]) + "`",
		"`" + constant.StringVal(have["crypto.deriveContext"]) + "`",
		"`" + constant.StringVal(have["crypto.keyFilePrefix"]) + "`",
		"`" + strings.TrimSpace(constant.StringVal(have["crypto.recoveryContext"])) + "`, a line end",
		strings.TrimSpace(formatTitle) + "\nversion " + strconv.Itoa(FormatVersion) + "\nid ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
	var types []string
	for _, row := range tableHeaded(t, tables, "type", "what", "fields")[0].rows {
		if row[0] != "" {
			types = append(types, row[0]+" "+row[1])
		}
	}
	want := []string{"1 regular", "2 directory", "3 symlink", "4 fifo", "5 socket", "6 character device", "7 block device"}
	if TypeRegular != 1 || TypeDirectory != 2 || TypeSymlink != 3 || TypeFIFO != 4 || TypeSocket != 5 || TypeCharDevice != 6 || TypeBlockDevice != 7 || !slices.Equal(types, want) {
		t.Errorf("types: got %q, want %q", types, want)
	}
	var purposes, wantPurposes []string
	for _, row := range tableHeaded(t, tables, "purpose", "use")[0].rows {
		purposes = append(purposes, quotedWords(row[0])...)
	}
	for name, v := range have {
		if strings.HasPrefix(name, "crypto.Purpose") {
			wantPurposes = append(wantPurposes, constant.StringVal(v))
		}
	}
	slices.Sort(purposes)
	if slices.Sort(wantPurposes); !slices.Equal(purposes, wantPurposes) {
		t.Errorf("purposes: got %q, want %q", purposes, wantPurposes)
	}
}
