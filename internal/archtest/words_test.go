package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// emptyNames say nothing about what a package holds.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "type", "types", "manager", "managers", "errors",
	"misc", "base", "lib", "shared", "core", "tools", "models"}

// checkNames refuses packages named for nothing, in their directory or in their clause.
func checkNames(tr *tree) (found []finding) {
	for _, p := range tr.packages {
		for _, name := range []string{path.Base(p.dir), strings.TrimSuffix(p.files[0].ast.Name.Name, "_test")} {
			if slices.Contains(emptyNames, name) {
				found = append(found, finding{where: p.dir, what: name, text: "a package named " + name + " is named for nothing"})
				break
			}
		}
	}
	return found
}

// checkPackageComment wants exactly one package comment per package, starting as go doc expects.
// Test files count only where there is nothing else.
func checkPackageComment(tr *tree) (found []finding) {
	for _, p := range tr.packages {
		product := tr.has(p.dir)
		var with []string
		name, opening := "", ""
		for _, f := range p.files {
			if f.test && product {
				continue
			}
			name = f.ast.Name.Name
			if f.ast.Doc != nil {
				with = append(with, path.Base(f.path))
				opening = f.ast.Doc.Text()
			}
		}
		text := ""
		switch {
		case len(with) == 0:
			text = "has no package comment"
		case len(with) > 1:
			text = "has a package comment in " + strings.Join(with, " and ")
		case name != "main" && !strings.HasPrefix(opening, "Package "+name+" "):
			text = fmt.Sprintf("its comment does not start with %q", "Package "+name)
		default:
			continue
		}
		found = append(found, finding{where: p.dir, what: "comment", text: text})
	}
	return found
}

// checkDoc wants a doc comment on every exported function, method, type, constant and variable. One
// comment may stand for a group of constants or variables.
func checkDoc(tr *tree) (found []finding) {
	for f := range tr.all {
		if f.test {
			continue
		}
		add := func(n ast.Node, name string) {
			found = append(found, finding{where: f.path, what: name, line: tr.line(n), text: name + " is exported and has no comment"})
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				receiver := receiverName(d)
				if !d.Name.IsExported() || d.Doc != nil || d.Recv != nil && !ast.IsExported(receiver) {
					continue
				}
				if receiver != "" {
					receiver += "."
				}
				add(d, receiver+d.Name.Name)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					docSpec(d, spec, add)
				}
			}
		}
	}
	return found
}

func docSpec(d *ast.GenDecl, spec ast.Spec, add func(ast.Node, string)) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return
		}
		if s.Doc == nil && d.Doc == nil {
			add(s, s.Name.Name)
		}
		if iface, ok := s.Type.(*ast.InterfaceType); ok {
			for _, m := range iface.Methods.List {
				if len(m.Names) == 1 && m.Names[0].IsExported() && m.Doc == nil && m.Comment == nil {
					add(m, s.Name.Name+"."+m.Names[0].Name)
				}
			}
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				add(s, name.Name)
			}
		}
	}
}

func receiverName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// maxLines is where a file has become the object that knows everything.
const maxLines = 600

func checkSize(tr *tree) (found []finding) {
	for f := range tr.all {
		if f.lines > maxLines {
			found = append(found, finding{where: f.path, what: "lines", text: fmt.Sprintf("%d lines, more than %d: split it by noun", f.lines, maxLines)})
		}
	}
	return found
}

var (
	citation = regexp.MustCompile(`[\w/-]+\.go:\d+`)
	leftover = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	mention  = regexp.MustCompile("`(?:[A-Z_]+=\\S+ )*make ([a-z][a-z-]*)[^`]*`")
	target   = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
	link     = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
)

// checkMarkdown keeps documents true for longer than a commit: they name packages and types, not
// line numbers; the make targets and files they point to exist.
func checkMarkdown(tr *tree) (found []finding) {
	targets := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(tr.texts["Makefile"], -1) {
		targets[m[1]] = true
	}
	for name, text := range tr.texts {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			add := func(what, text string) {
				found = append(found, finding{where: name, what: what, line: i + 1, text: text})
			}
			if m := citation.FindString(line); m != "" {
				add(m, "cites the line "+m+": name the type or function")
			}
			for _, m := range mention.FindAllStringSubmatch(line, -1) {
				if !targets[m[1]] {
					add(m[1], "make "+m[1]+" is no target of the Makefile")
				}
			}
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if _, err := os.Stat(filepath.Join(tr.root, path.Dir(name), m[1])); err != nil {
					add(m[1], "links to "+m[1]+", which is not there")
				}
			}
		}
	}
	return found
}

// checkLeftovers finds notes to oneself: what is open stands in an issue.
func checkLeftovers(tr *tree) (found []finding) {
	for f := range tr.all {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				for i, line := range strings.Split(c.Text, "\n") {
					if m := leftover.FindString(line); m != "" {
						found = append(found, finding{where: f.path, what: m, line: tr.fset.Position(token.Pos(c.Pos())).Line + i, text: "a " + m + " left in the code"})
					}
				}
			}
		}
	}
	for name, text := range tr.texts {
		for i, line := range strings.Split(text, "\n") {
			if m := leftover.FindString(line); m != "" && !strings.Contains(line, "XXXX") {
				found = append(found, finding{where: name, what: m, line: i + 1, text: "a " + m + " left in the text"})
			}
		}
	}
	return found
}
