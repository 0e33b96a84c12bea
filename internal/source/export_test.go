package source

import (
	"iter"

	"golang.org/x/sys/unix"
)

// PretendFileSystem makes every file system look like one of a type, until the result is called.
func PretendFileSystem(typ int64) (restore func()) {
	was := fileSystemType
	fileSystemType = func(int) (int64, error) { return typ, nil }
	return func() { fileSystemType = was }
}

// Matcher lets tests ask the patterns directly.
type Matcher struct{ p *patterns }

// NewMatcher compiles patterns, then lines.
func NewMatcher(list, lines []string) (Matcher, error) {
	p, err := compilePatterns(list, lines)
	return Matcher{p}, err
}

// Excluded asks about one path, of which no directory above is excluded.
func (m Matcher) Excluded(dirs []string, name string, directory bool) bool {
	return m.p.excluded(dirs, name, directory)
}

// Names parses what getdents64 wrote, as a listing does.
func Names(buf []byte) ([]string, error) {
	var l lister
	if err := l.addAll(buf); err != nil {
		return nil, err
	}
	sorted := l.finish()
	var names []string
	for i := range sorted.count() {
		names = append(names, sorted.name(i))
		if p := entryPointer(sorted.at(i)); unix.BytePtrToString(p) != sorted.name(i) {
			panic("a name and its pointer differ")
		}
	}
	return names, nil
}

// Listed collects the names of what getdents64 wrote, buffer after buffer, and returns how many there are and the name at
// a place.
func Listed(buffers iter.Seq[[]byte]) (count int, name func(i int) string, err error) {
	var l lister
	for buf := range buffers {
		if err := l.addAll(buf); err != nil {
			return 0, nil, err
		}
	}
	sorted := l.finish()
	return sorted.count(), sorted.name, nil
}

// MappedPages counts the pages of a range of a file that are in the page cache.
var MappedPages = mappedPages

// WithoutCachestat is as on a kernel that has no such call, until the result is called.
func WithoutCachestat(without bool) (restore func()) {
	was := noCachestat.Load()
	noCachestat.Store(without || was)
	return func() { noCachestat.Store(was) }
}
