package archtest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// wall is a row of the table below "## Walls" in ARCHITECTURE.md: a module (or a package of the
// standard library), the packages that may import it, and why. "anywhere" lifts the wall; a place
// that ends in " tests" lets in test files only.
type wall struct {
	module string
	places []string
	reason string
}

var wallRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]*) \\|$")

func parseWalls(text string) ([]wall, error) {
	_, section, ok := strings.Cut(text, "\n## Walls\n")
	if !ok {
		return nil, fmt.Errorf("no section Walls")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var walls []wall
	for _, m := range wallRow.FindAllStringSubmatch(section, -1) {
		w := wall{module: m[1], reason: strings.TrimSpace(m[3])}
		for _, place := range strings.Split(m[2], ",") {
			w.places = append(w.places, strings.TrimSpace(place))
		}
		if w.reason == "" {
			return nil, fmt.Errorf("wall of %s has no reason", w.module)
		}
		walls = append(walls, w)
	}
	return walls, nil
}

// covers reports whether the import path belongs to the walled module.
func (w wall) covers(importPath string) bool {
	return importPath == w.module || strings.HasPrefix(importPath, w.module+"/")
}

func (w wall) admits(f *file) bool {
	for _, place := range w.places {
		dir, testsOnly := strings.CutSuffix(place, " tests")
		if place == "anywhere" || dir == f.pkg.dir && (f.test || !testsOnly) {
			return true
		}
	}
	return false
}

// checkWalls finds modules outside their walls, modules without a wall, and walls around nothing.
// Programs beside the product keep to the standard library but may use all of it.
func checkWalls(tr *tree) (found []finding) {
	used := map[string]bool{}
	for f := range tr.all {
		for _, spec := range f.ast.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if _, own := tr.own(target); own || err != nil {
				continue
			}
			third := strings.Contains(strings.Split(target, "/")[0], ".")
			text := ""
			i := slices.IndexFunc(tr.walls, func(w wall) bool { return w.covers(target) })
			switch {
			case i < 0 && third:
				text = "imports " + target + ", which has no row below Walls in ARCHITECTURE.md"
			case i < 0:
				continue
			default:
				w := tr.walls[i]
				used[w.module] = true
				beside := tr.diagram.rows[f.pkg.dir].kind == '-' && !third
				stdTest := f.test && !third
				if w.admits(f) || beside || stdTest {
					continue
				}
				text = fmt.Sprintf("imports %s, which belongs to %s: %s", target, strings.Join(w.places, ", "), w.reason)
			}
			found = append(found, finding{where: f.path, what: target, line: tr.line(spec), text: text})
		}
	}
	for _, w := range tr.walls {
		third := strings.Contains(strings.Split(w.module, "/")[0], ".")
		built := slices.ContainsFunc(w.places, func(place string) bool {
			dir, _ := strings.CutSuffix(place, " tests")
			return tr.has(dir)
		})
		if third && built && !used[w.module] {
			found = append(found, finding{where: "ARCHITECTURE.md", what: w.module, text: "wall around " + w.module + ", which nobody imports"})
		}
	}
	return found
}
