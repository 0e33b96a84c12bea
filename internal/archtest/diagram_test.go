package archtest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// diagram is the import diagram of ARCHITECTURE.md: one line per package inside the code block that
// starts with "```imports".
//
//	3  internal/backup  -> internal/source repo chunker crypto
//	0  chunker
//	t  internal/durable/crashfs  -> internal/durable
//	-  bench
//
// A number is the layer, and arrows go to lower layers only. A "t" marks a package for tests, which
// product code does not import; "-" marks a program beside the product, which imports none of it.
type diagram struct {
	order []string
	rows  map[string]row
}

type row struct {
	kind    byte // 'p' product, 't' tests, '-' beside the product
	layer   int
	imports []string
}

var diagramBlock = regexp.MustCompile("(?s)```imports\n(.*?)```")

func parseDiagram(text string) (*diagram, error) {
	m := diagramBlock.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("no code block marked imports")
	}
	d := &diagram{rows: map[string]row{}}
	for _, line := range strings.Split(m[1], "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 || len(fields) > 2 && fields[2] != "->" {
			return nil, fmt.Errorf("diagram line %q: want LAYER PACKAGE [-> PACKAGE...]", line)
		}
		r := row{kind: 'p'}
		switch fields[0] {
		case "t", "-":
			r.kind = fields[0][0]
		default:
			layer, err := strconv.Atoi(fields[0])
			if err != nil {
				return nil, fmt.Errorf("diagram line %q: layer %q is neither a number nor t nor -", line, fields[0])
			}
			r.layer = layer
		}
		if len(fields) > 2 {
			r.imports = fields[3:]
		}
		name := fields[1]
		if _, twice := d.rows[name]; twice {
			return nil, fmt.Errorf("diagram names %s twice", name)
		}
		d.order = append(d.order, name)
		d.rows[name] = r
	}
	return d, nil
}

// checkImports compares the diagram with the code, in both directions. Tests may use what stands beside or below their
// package: a restore is tested with a backup.
func checkImports(tr *tree) (found []finding) {
	add := func(where, what string, line int, format string, args ...any) {
		found = append(found, finding{where: where, what: what, line: line, text: fmt.Sprintf(format, args...)})
	}
	for _, p := range tr.packages {
		r, drawn := tr.diagram.rows[p.dir]
		if !drawn {
			if tr.has(p.dir) && p.dir != "internal/archtest" {
				add(p.dir, "package", 0, "stands in no line of the import diagram in ARCHITECTURE.md")
			}
			continue
		}
		imported := map[string]bool{}
		for _, f := range p.files {
			for _, spec := range f.ast.Imports {
				target, err := strconv.Unquote(spec.Path.Value)
				dir, own := tr.own(target)
				if err != nil || !own || dir == p.dir {
					continue
				}
				to := tr.diagram.rows[dir]
				switch {
				case !f.test && to.kind == 't' && r.kind != 't':
					add(f.path, dir, tr.line(spec), "product code imports %s, which is for tests", dir)
				case !f.test && !slices.Contains(r.imports, dir):
					add(f.path, dir, tr.line(spec), "imports %s without an arrow in ARCHITECTURE.md", dir)
				case f.test && to.kind == 'p' && r.kind == 'p' && to.layer > r.layer:
					add(f.path, dir, tr.line(spec), "test imports %s, which stands above %s", dir, p.dir)
				case f.test && to.kind != 't' && to.kind != 'p':
					add(f.path, dir, tr.line(spec), "test imports %s, which is no product code", dir)
				}
				if !f.test {
					imported[dir] = true
				}
			}
		}
		if !tr.has(p.dir) {
			continue
		}
		for _, dir := range r.imports {
			if !imported[dir] {
				add(p.dir, dir, 0, "has an arrow to %s in ARCHITECTURE.md but does not import it", dir)
			}
		}
	}
	return found
}

// checkLayers looks at the diagram alone: arrows go down, to packages that are drawn, and tests
// stay out of the product.
func checkLayers(tr *tree) (found []finding) {
	for _, name := range tr.diagram.order {
		r := tr.diagram.rows[name]
		for _, dir := range r.imports {
			to, drawn := tr.diagram.rows[dir]
			text := ""
			switch {
			case !drawn:
				text = "has an arrow to " + dir + ", which has no line"
			case r.kind == 'p' && to.kind != 'p':
				text = "has an arrow to " + dir + ", which is no product code"
			case r.kind == '-':
				text = "has an arrow to " + dir + " although it stands beside the product"
			case r.kind == 'p' && to.layer >= r.layer:
				text = fmt.Sprintf("layer %d has an arrow up to %s, layer %d", r.layer, dir, to.layer)
			default:
				continue
			}
			found = append(found, finding{where: name, what: dir, text: text})
		}
	}
	return found
}
