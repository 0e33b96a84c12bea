package archtest

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rule is one rule of the house. Its name is also the name of its fixture below testdata and the
// first word of its lines in exceptions.txt.
type rule struct {
	name  string
	check func(*tree) []finding
}

var rules = []rule{
	{"imports", checkImports},
	{"layers", checkLayers},
	{"walls", checkWalls},
	{"process", checkProcess},
	{"testing", checkTesting},
	{"durable", checkDurable},
	{"globals", checkGlobals},
	{"skips", checkSkips},
	{"errors", checkErrors},
	{"names", checkNames},
	{"comment", checkPackageComment},
	{"doc", checkDoc},
	{"size", checkSize},
	{"markdown", checkMarkdown},
	{"leftovers", checkLeftovers},
}

// exception lets one thing pass one rule in a file or a package, for a reason.
type exception struct {
	rule, where, what, reason string
	used                      bool
}

// readExceptions reads "RULE | WHERE | WHAT | REASON" lines; # starts a comment.
func readExceptions(name string) ([]*exception, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []*exception
	for _, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if len(fields) != 4 || slices.Contains(fields, "") {
			return nil, fmt.Errorf("%s: %q: want RULE | WHERE | WHAT | REASON", name, line)
		}
		list = append(list, &exception{rule: fields[0], where: fields[1], what: fields[2], reason: fields[3]})
	}
	return list, nil
}

// judge runs one rule and takes out what an exception allows.
func judge(r rule, tr *tree, exceptions []*exception) []finding {
	found := r.check(tr)
	found = slices.DeleteFunc(found, func(f finding) bool {
		for _, e := range exceptions {
			if e.rule == r.name && e.what == f.what && (e.where == f.where || e.where == path.Dir(f.where)) {
				e.used = true
				return true
			}
		}
		return false
	})
	slices.SortStableFunc(found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.where, b.where), cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	})
	return found
}

func TestHouse_KeepsItsRules(t *testing.T) {
	tr := load(t, filepath.Join("..", ".."))
	exceptions, err := readExceptions("exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range judge(r, tr, exceptions) {
				t.Error(f)
			}
		})
	}
	t.Run("exceptions", func(t *testing.T) {
		for _, r := range rules {
			judge(r, tr, exceptions)
		}
		for _, e := range unneeded(tr, exceptions) {
			t.Errorf("exceptions.txt: %s | %s | %s is not needed any more", e.rule, e.where, e.what)
		}
	})
}

// unneeded are the exceptions that allowed nothing although what they speak of is there.
func unneeded(tr *tree, exceptions []*exception) (list []exception) {
	for _, e := range exceptions {
		_, err := os.Stat(filepath.Join(tr.root, e.where))
		if !e.used && (err == nil || strings.HasSuffix(e.where, ".md")) {
			list = append(list, *e)
		}
	}
	return list
}

// Each rule must still find what it was written for.
func TestRules_FindTheGuilty(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			dir := filepath.Join("testdata", r.name)
			text, err := os.ReadFile(filepath.Join(dir, "guilty.txt"))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(text)), "\n")
			var got []string
			for _, f := range judge(r, load(t, dir), nil) {
				got = append(got, f.String())
			}
			if len(got) == 0 {
				t.Fatalf("rule %s finds nothing in %s", r.name, dir)
			}
			for _, line := range want {
				if !slices.Contains(got, line) {
					t.Errorf("not found: %s", line)
				}
			}
			for _, line := range got {
				if !slices.Contains(want, line) {
					t.Errorf("not in guilty.txt: %s", line)
				}
			}
		})
	}
}

func TestRules_LeaveTheInnocentAlone(t *testing.T) {
	tr := load(t, filepath.Join("testdata", "innocent"))
	for _, r := range rules {
		for _, f := range judge(r, tr, nil) {
			t.Errorf("%s: %s", r.name, f)
		}
	}
}

func TestExceptions_AreTakenOnceAndMissedWhenUnneeded(t *testing.T) {
	tr := load(t, filepath.Join("testdata", "size"))
	var size rule
	for _, r := range rules {
		if r.name == "size" {
			size = r
		}
	}
	needed := &exception{rule: "size", where: "long/long.go", what: "lines", reason: "a table"}
	stale := &exception{rule: "size", where: "long/short.go", what: "lines", reason: "was long once"}
	later := &exception{rule: "size", where: "notyet/big.go", what: "lines", reason: "comes later"}
	list := []*exception{needed, stale, later}
	if got := judge(size, tr, list); len(got) != 0 {
		t.Errorf("excepted file still found: %v", got)
	}
	got := unneeded(tr, list)
	if len(got) != 1 || got[0].where != stale.where {
		t.Errorf("unneeded exceptions: got %v, want only %s", got, stale.where)
	}
}
