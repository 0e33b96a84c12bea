package archtest

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

// forbidden are calls and values only some packages may use, by import path and name.
type forbidden map[string][]string

// use is one mention of a name of another package.
type use struct {
	importPath, name string
	at               ast.Node
}

func (u use) String() string { return path.Base(u.importPath) + "." + u.name }

// uses lists every qualified name from another package that the file mentions.
func (f *file) uses() (list []use) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && f.imports[x.Name] != "" {
				list = append(list, use{f.imports[x.Name], sel.Sel.Name, n})
			}
		}
		return true
	})
	return list
}

// processOnly lists what belongs to programs: ending the process, reading its surroundings,
// printing. Packages get an Options and return errors.
var processOnly = forbidden{
	"os": {"Exit", "Args", "Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv", "Stdin", "Stdout", "Stderr",
		"UserHomeDir", "UserCacheDir", "UserConfigDir", "TempDir"},
	"syscall":               {"Exit", "Getenv", "Environ"},
	"golang.org/x/sys/unix": {"Exit", "Getenv", "Environ"},
	"log":                   {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Print", "Printf", "Println"},
	"fmt":                   {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"log/slog":              {"Default", "SetDefault", "Debug", "Info", "Warn", "Error"},
	"flag":                  {"*"},
	"os/signal":             {"*"},
}

func (fb forbidden) holds(u use) bool {
	names := fb[u.importPath]
	return slices.Contains(names, u.name) || slices.Contains(names, "*")
}

// checkProcess keeps the process to programs, and programs to cmd and the tools beside the product.
func checkProcess(tr *tree) (found []finding) {
	for f := range tr.all {
		if f.test {
			continue
		}
		if f.main() {
			if !strings.HasPrefix(f.pkg.dir, "cmd/") && tr.diagram.rows[f.pkg.dir].kind != '-' {
				found = append(found, finding{where: f.path, what: "main", text: "a program outside cmd"})
			}
			continue
		}
		for _, u := range f.uses() {
			if processOnly.holds(u) {
				found = append(found, finding{where: f.path, what: u.String(), line: tr.line(u.at),
					text: "uses " + u.String() + ", which belongs to cmd"})
			}
		}
	}
	return found
}

// checkTesting keeps package testing and its family out of the product.
func checkTesting(tr *tree) (found []finding) {
	for f := range tr.all {
		if f.test || strings.HasSuffix(f.ast.Name.Name, "test") {
			continue
		}
		for _, target := range f.imports {
			if target == "testing" || strings.HasPrefix(target, "testing/") || target == "net/http/httptest" {
				found = append(found, finding{where: f.path, what: target, text: "product code imports " + target})
			}
		}
	}
	return found
}

// durableNames are the calls that decide what survives a power cut.
var durableNames = []string{"Sync", "Fsync", "Fdatasync", "Syncfs", "SyncFileRange", "Msync", "Rename", "Renameat", "Renameat2", "SYS_FSYNC", "SYS_RENAMEAT2"}

// checkDurable keeps every sync and rename in internal/durable and its fakes. It goes by name, as a
// method called Sync or Rename is worth a look wherever it stands in the product.
func checkDurable(tr *tree) (found []finding) {
	for f := range tr.all {
		kind := tr.diagram.rows[f.pkg.dir].kind
		if f.test || kind == 't' || kind == '-' || f.pkg.dir == "internal/durable" || strings.HasPrefix(f.pkg.dir, "internal/durable/") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains(durableNames, sel.Sel.Name) {
				found = append(found, finding{where: f.path, what: sel.Sel.Name, line: tr.line(n),
					text: "uses " + sel.Sel.Name + ": syncs and renames belong to internal/durable"})
			}
			return true
		})
	}
	return found
}

// checkGlobals finds what works behind the reader's back: init functions, blank and dot imports.
func checkGlobals(tr *tree) (found []finding) {
	for f := range tr.all {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, finding{where: f.path, what: "init", line: tr.line(fn), text: "func init: nothing registers or computes itself"})
			}
		}
		for _, spec := range f.ast.Imports {
			if spec.Name == nil {
				continue
			}
			if n := spec.Name.Name; n == "." || n == "_" && spec.Path.Value != `"embed"` {
				found = append(found, finding{where: f.path, what: spec.Path.Value, line: tr.line(spec), text: "import " + n + " " + spec.Path.Value})
			}
		}
	}
	return found
}

// checkSkips finds tests that skip themselves: what a test needs is installed by make, not wished for.
func checkSkips(tr *tree) (found []finding) {
	for f := range tr.all {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				if x, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
					found = append(found, finding{where: f.path, what: "Skip", line: tr.line(n), text: "a test that skips itself proves nothing"})
				}
			}
			return true
		})
	}
	return found
}

// checkErrors looks at the words of errors: no chains of "failed to", as the caller adds what it
// was doing and the reader wants what went wrong.
func checkErrors(tr *tree) (found []finding) {
	for f := range tr.all {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Errorf" && sel.Sel.Name != "New" {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok || f.imports[x.Name] != "fmt" && f.imports[x.Name] != "errors" {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && strings.Contains(strings.ToLower(lit.Value), "failed to ") {
				found = append(found, finding{where: f.path, what: "failed to", line: tr.line(n), text: "error text says \"failed to\": say what is wrong"})
			}
			return true
		})
	}
	return found
}
