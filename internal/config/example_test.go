package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/config"
)

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/backupd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// uncomment gives the example with every optional part in it.
func uncomment(text string) string {
	var out []string
	inside := false
	for _, line := range strings.Split(text, "\n") {
		bare := strings.TrimLeft(line, " ")
		switch {
		case strings.HasPrefix(bare, "#") && !strings.HasPrefix(bare, "# ") && len(bare) > 1:
			line = strings.Replace(line, "#", "", 1)
			inside = true
		case inside && strings.HasPrefix(bare, "#  "):
			line = strings.Replace(line, "#", "", 1)
		default:
			inside = false
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestExample_IsTaken(t *testing.T) {
	if _, err := config.Parse("example", []byte(readExample(t))); err != nil {
		t.Error(err)
	}
}

// eachKey calls each with the path of every key of a section, [] for elements and names.
func eachKey(t reflect.Type, path string, each func(path string, leaf bool)) {
	switch t.Kind() {
	case reflect.Pointer:
		eachKey(t.Elem(), path, each)
	case reflect.Slice, reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			eachKey(t.Elem(), path+"[]", each)
		}
	case reflect.Struct:
		for i := range t.NumField() {
			name := t.Field(i).Tag.Get("yaml")
			if name == "" {
				continue
			}
			at := strings.TrimPrefix(path+"."+name, ".")
			kind := t.Field(i).Type.Kind()
			each(at, kind != reflect.Struct && kind != reflect.Pointer)
			eachKey(t.Field(i).Type, at, each)
		}
	}
}

var element = regexp.MustCompile(`\[\d+\]|^(targets)\.[a-z0-9-]+`)

func TestExample_HasEveryKey(t *testing.T) {
	_, lines, err := config.Decode("example", []byte(uncomment(readExample(t))))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for key := range lines {
		there[element.ReplaceAllString(key, "$1[]")] = true
	}
	eachKey(reflect.TypeFor[config.Config](), "", func(path string, _ bool) {
		if !there[path] {
			t.Errorf("%s does not occur in the example", path)
		}
	})
}

// values are the values of all keys by path, as eachKey writes it; sections that are not there have none.
func values(v reflect.Value, path string, into map[string]any) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			values(v.Elem(), path, into)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("yaml"); name != "" {
				values(v.Field(i), strings.TrimPrefix(path+"."+name, "."), into)
			}
		}
	case reflect.Slice, reflect.Map:
	default:
		into[path] = v.Interface()
	}
}

func TestExample_StatesTheRealDefaults(t *testing.T) {
	text := uncomment(readExample(t))
	said, lines, err := config.Decode("example", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	// The same with every default left out: what is then there is the real one.
	rows := strings.Split(text, "\n")
	marked := map[int]bool{}
	for i, row := range rows {
		if strings.HasSuffix(row, "# default") {
			marked[i+1] = true
			rows[i] = ""
		}
	}
	bare := strings.Join(rows, "\n")
	for _, section := range []string{"gc", "retention", "verify", "limits", "log"} { // empty now
		bare = strings.Replace(bare, "\n"+section+":\n", "\n", 1)
	}
	real, _, err := config.Decode("example", []byte(bare))
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[string]any{}, map[string]any{}
	collect := func(c *config.Config, into map[string]any) {
		values(reflect.ValueOf(c).Elem(), "", into)
		values(reflect.ValueOf(c.Sources[0].Hooks).Elem(), "sources[0].hooks", into)
		values(reflect.ValueOf(c.Targets["staging"].Postgres).Elem(), "targets.staging.postgres", into)
	}
	collect(said, got)
	collect(real, want)
	checked := 0
	for key, line := range lines {
		if _, scalar := want[key]; !scalar || !marked[line] {
			continue
		}
		checked++
		if got[key] != want[key] {
			t.Errorf("%s: the example says %v is the default, it is %v", key, got[key], want[key])
		}
		delete(want, key)
	}
	if checked != len(marked) {
		t.Errorf("%d lines are marked as default, %d were compared", len(marked), checked)
	}
	// And the other way round: what has a value without being in the file is a default the example must mark.
	for key, value := range want {
		if !reflect.ValueOf(value).IsZero() && lines[key] == 0 {
			t.Errorf("%s: the default %v is not in the example", key, value)
		}
	}
}

func TestExample_IsRefusedByAWrongDefault(t *testing.T) { // the control of the test above: it reads what it compares
	said, _, err := config.Decode("x", []byte(strings.Replace(readExample(t), "connections: 2048", "connections: 2049", 1)))
	if err != nil || said.Limits.Connections != 2049 {
		t.Errorf("%v %v", said, err)
	}
}

func TestConfig_HasACommentOnEveryField(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		s, ok := node.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range s.Fields.List {
			if f.Names[0].IsExported() {
				n++
				if !strings.HasPrefix(f.Doc.Text(), f.Names[0].Name+" ") {
					t.Errorf("%s has no comment that begins with its name", f.Names[0].Name)
				}
			}
		}
		return true
	})
	if n < 50 {
		t.Errorf("only %d fields seen", n)
	}
}
