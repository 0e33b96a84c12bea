package archtest

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tree is a checkout as the rules see it: parsed Go files by package, and the text of everything
// else a rule reads. Paths are relative to the root and have forward slashes.
type tree struct {
	root     string
	module   string // module path from go.mod
	fset     *token.FileSet
	packages []*pkg            // sorted by dir
	texts    map[string]string // *.md, *.sh, Makefile, .ci/run by path
	diagram  *diagram
	walls    []wall
}

// pkg is one directory with Go files.
type pkg struct {
	dir   string // "repo", "internal/store"; the module root is "."
	files []*file
}

// file is one parsed Go file.
type file struct {
	path    string
	pkg     *pkg
	test    bool // name ends in _test.go
	lines   int
	ast     *ast.File
	imports map[string]string // name in this file -> import path
}

// skipped are the directories that hold no source of ours.
func skipped(rel string) bool {
	base := path.Base(rel)
	if strings.HasPrefix(base, ".") && base != ".ci" && rel != "." {
		return true
	}
	return base == "testdata" || rel == "bin" || rel == "var"
}

// load reads the tree below root.
func load(t *testing.T, root string) *tree {
	t.Helper()
	tr := &tree{root: root, fset: token.NewFileSet(), texts: map[string]string{}}
	byDir := map[string]*pkg{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if skipped(rel) {
				return fs.SkipDir
			}
			return nil
		}
		switch {
		case strings.HasSuffix(rel, ".go"):
			return tr.addGo(byDir, rel)
		case strings.HasSuffix(rel, ".md"), strings.HasSuffix(rel, ".sh"), rel == "Makefile", rel == ".ci/run", rel == "go.mod":
			text, err := os.ReadFile(name)
			tr.texts[rel] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(tr.texts["go.mod"], "\n") {
		if m, ok := strings.CutPrefix(line, "module "); ok {
			tr.module = strings.TrimSpace(m)
		}
	}
	delete(tr.texts, "go.mod")
	if tr.module == "" {
		t.Fatalf("%s: no module line in go.mod", root)
	}
	for _, p := range byDir {
		tr.packages = append(tr.packages, p)
	}
	slices.SortFunc(tr.packages, func(a, b *pkg) int { return cmp.Compare(a.dir, b.dir) })
	text := tr.texts["ARCHITECTURE.md"]
	if tr.diagram, err = parseDiagram(text); err != nil {
		t.Fatalf("%s/ARCHITECTURE.md: %v", root, err)
	}
	if tr.walls, err = parseWalls(text); err != nil {
		t.Fatalf("%s/ARCHITECTURE.md: %v", root, err)
	}
	return tr
}

func (tr *tree) addGo(byDir map[string]*pkg, rel string) error {
	src, err := os.ReadFile(filepath.Join(tr.root, rel))
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(tr.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(rel)
	p := byDir[dir]
	if p == nil {
		p = &pkg{dir: dir}
		byDir[dir] = p
	}
	f := &file{
		path: rel, pkg: p, ast: parsed,
		test:    strings.HasSuffix(rel, "_test.go"),
		lines:   strings.Count(string(src), "\n"),
		imports: map[string]string{},
	}
	for _, spec := range parsed.Imports {
		target, _ := strconv.Unquote(spec.Path.Value)
		f.imports[importName(spec, target)] = target
	}
	p.files = append(p.files, f)
	return nil
}

// importName is the name an import has in its file. Without a type checker the last element of the
// path stands for the package's own name; all modules behind our walls follow that custom.
func importName(spec *ast.ImportSpec, target string) string {
	if spec.Name != nil {
		if n := spec.Name.Name; n != "_" && n != "." {
			return n
		}
		return spec.Name.Name + target // several of these may stand in one file
	}
	base := path.Base(target)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(target))
	}
	return base
}

// all yields every Go file of the tree.
func (tr *tree) all(yield func(*file) bool) {
	for _, p := range tr.packages {
		for _, f := range p.files {
			if !yield(f) {
				return
			}
		}
	}
}

// has reports whether the tree holds product code of package dir.
func (tr *tree) has(dir string) bool {
	for _, p := range tr.packages {
		if p.dir == dir {
			return slices.ContainsFunc(p.files, func(f *file) bool { return !f.test })
		}
	}
	return false
}

// own turns an import path of this module into its directory.
func (tr *tree) own(importPath string) (dir string, ok bool) {
	if importPath == tr.module {
		return ".", true
	}
	return strings.CutPrefix(importPath, tr.module+"/")
}

// line is the line of a node in its file.
func (tr *tree) line(n ast.Node) int { return tr.fset.Position(n.Pos()).Line }

// main reports whether the file belongs to a program.
func (f *file) main() bool { return f.ast.Name.Name == "main" }

// finding is one breach of a rule. Where and what name it for exceptions.txt: a file or package
// and the offending thing.
type finding struct {
	where, what string
	line        int // 0 when the whole file or package is meant
	text        string
}

func (f finding) String() string {
	if f.line > 0 {
		return f.where + ":" + strconv.Itoa(f.line) + ": " + f.text
	}
	return f.where + ": " + f.text
}
