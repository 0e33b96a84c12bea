package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// swept are directories that a platform host empties while it runs, backups in the making included.
var swept = []string{"/tmp", "/var/tmp"}

// within reports whether path is dir or lies in it. Both are clean and absolute.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// place is a directory the configuration names.
type place struct {
	key, what, path string
	source          *Source // of a source's path
}

// excludes reports whether the source leaves the path out, by an exclude that is the path itself or a directory above it.
// One that takes back what others exclude makes that uncertain.
func (p place) excludes(path string, real func(string) string) bool {
	if slices.ContainsFunc(p.source.Exclude, func(e string) bool { return strings.HasPrefix(e, "!") }) {
		return false
	}
	return slices.ContainsFunc(p.source.Exclude, func(e string) bool {
		return strings.HasPrefix(e, "/") && within(path, real(e))
	})
}

// apart judges that no directory lies where another one would be overwritten by
// it, or swallow it: a backup of the repository into itself never ends. real
// turns a path into the one it really is.
func (v *validator) apart(real func(string) string) {
	c := v.c
	repository := place{key: "repository.path", what: "the repository", path: c.Repository.Path}
	state := place{key: "state_dir", what: "the state directory", path: c.StateDir}
	own := []place{repository, state}
	var targets, sources []place
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		targets = append(targets, place{key: "targets." + name + ".path", what: "target " + name, path: c.Targets[name].Path})
	}
	for i := range c.Sources {
		s := &c.Sources[i]
		for j, path := range s.Paths {
			sources = append(sources, place{key: fmt.Sprintf("sources[%d].paths[%d]", i, j), what: "source " + s.Name, path: path, source: s})
		}
	}
	for _, list := range [][]place{own, targets, sources} {
		for i := range list {
			if strings.HasPrefix(list[i].path, "/") {
				list[i].path = real(list[i].path)
			} else {
				list[i].path = "" // judged already
			}
		}
	}
	v.disjoint(own[1], own[0])
	for i, t := range targets {
		v.disjoint(t, own[0])
		v.disjoint(t, own[1])
		for _, other := range targets[:i] {
			v.disjoint(t, other)
		}
	}
	for _, s := range sources {
		if s.path == "" {
			continue
		}
		for _, other := range append(slices.Clone(own), targets...) {
			switch {
			case other.path == "":
			case within(s.path, other.path):
				v.refuse(s.key, "%s is or lies in %s, %s", s.path, other.what, other.path)
			case within(other.path, s.path) && !s.excludes(other.path, real):
				v.refuse(other.key, "%s lies in %s, %s, which would back it up: move it, or exclude it there by its whole path", other.path, s.what, s.path)
			}
		}
	}
}

func (v *validator) disjoint(a, b place) {
	if a.path != "" && b.path != "" && (within(a.path, b.path) || within(b.path, a.path)) {
		v.refuse(a.key, "%s and %s (%s) lie in one another: give each its own directory", a.path, b.what, b.path)
	}
}
