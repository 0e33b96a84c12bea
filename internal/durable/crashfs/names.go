package crashfs

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// tree maps the name of each directory to its entries.
type tree map[string]map[string]*inode

func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func (t tree) entries(dir string) (map[string]*inode, error) {
	entries, ok := t[dir]
	if ok {
		return entries, nil
	}
	if _, err := t.find(dir); err == nil {
		return nil, syscall.ENOTDIR
	}
	return nil, syscall.ENOENT
}

// find returns what has the name; the root has none.
func (t tree) find(name string) (*inode, error) {
	if !valid(name) {
		return nil, syscall.EINVAL
	}
	if ino := t[parent(name)][base(name)]; ino != nil {
		return ino, nil
	}
	return nil, syscall.ENOENT
}

// vacant returns nil if the name can be given to something new.
func (t tree) vacant(name string) error {
	if !valid(name) {
		return syscall.EINVAL
	}
	entries, err := t.entries(parent(name))
	if err != nil {
		return err
	}
	if entries[base(name)] != nil {
		return syscall.EEXIST
	}
	return nil
}

func valid(name string) bool { return name != "" && fs.ValidPath(name) && name != "." }

// put gives a name to an inode, or to nobody.
func (t tree) put(name string, ino *inode) {
	dir := parent(name)
	if ino == nil {
		delete(t[dir], base(name))
		return
	}
	if t[dir] == nil {
		t[dir] = map[string]*inode{}
	}
	t[dir][base(name)] = ino
	if _, known := t[name]; ino.dir && !known {
		t[name] = nil
	}
}

func (t tree) clone() tree {
	c := make(tree, len(t))
	for dir, entries := range t {
		c[dir] = maps.Clone(entries)
	}
	return c
}

// prune drops what hangs below a directory that is not there.
func (t tree) prune() {
	for _, dir := range slices.Sorted(maps.Keys(t)) {
		if dir == "" {
			continue
		}
		ino := t[parent(dir)][base(dir)]
		if _, ok := t[parent(dir)]; !ok || ino == nil || !ino.dir {
			delete(t, dir)
		}
	}
}

// change is one operation on names: name comes to lead to ino (nil: to nothing),
// and for a rename from stops leading to it.
type change struct {
	name  string
	ino   *inode
	from  string
	moved bool // from counts
	// A later change of the same name is on the disk already; this one must not
	// be put over it.
	nameDone, fromDone bool
}

func (c *change) into(t tree) {
	if c.moved && !c.fromDone {
		t.put(c.from, nil)
	}
	if !c.nameDone {
		t.put(c.name, c.ino)
	}
}

// touches reports whether the change, as far as it still counts, is to name.
func (c *change) touches(name string) bool {
	return c.name == name && !c.nameDone || c.moved && c.from == name && !c.fromDone
}

// apply makes a change visible to programs.
func (f *FS) apply(c *change) {
	c.into(f.live)
	f.pending = append(f.pending, c)
}

// persist puts a pending change, and what it depends on, on the disk.
func (f *FS) persist(c *change) {
	n := slices.Index(f.pending, c)
	if n < 0 {
		return
	}
	need := make([]bool, n+1)
	need[n] = true
	f.dependencies(need)
	for k, wanted := range need {
		if !wanted {
			continue
		}
		p := f.pending[k]
		p.into(f.disk)
		for _, older := range f.pending[:k] {
			if older.name == p.name || p.moved && older.name == p.from {
				older.nameDone = true
			}
			if older.moved && (older.from == p.name || p.moved && older.from == p.from) {
				older.fromDone = true
			}
		}
		p.nameDone, p.fromDone = true, true
	}
	f.pending = slices.DeleteFunc(f.pending, func(c *change) bool {
		return c.nameDone && (c.fromDone || !c.moved)
	})
}

// dependencies adds to a choice of the oldest pending changes those without
// which the chosen ones are impossible: what made the name that a rename moved.
func (f *FS) dependencies(chosen []bool) {
	for k := len(chosen) - 1; k >= 0; k-- {
		c := f.pending[k]
		if !chosen[k] || !c.moved {
			continue
		}
		for j := range k {
			if f.pending[j].touches(c.from) {
				chosen[j] = true
			}
		}
	}
}

// used counts the bytes of all files that have a name.
func (f *FS) used() int64 {
	var sum int64
	seen := map[*inode]bool{}
	for _, entries := range f.live {
		for _, ino := range entries {
			if !ino.dir && !seen[ino] {
				seen[ino] = true
				sum += int64(len(ino.data))
			}
		}
	}
	return sum
}
