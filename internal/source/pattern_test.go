package source_test

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/source"
)

// excluded asks as a scan does: from the top down, and not below what is excluded. A path that ends with a slash is a
// directory.
func excluded(m source.Matcher, p string) bool {
	p, directory := strings.CutSuffix(p, "/")
	comps := strings.Split(p, "/")
	for i, c := range comps {
		if m.Excluded(comps[:i], c, directory || i+1 < len(comps)) {
			return true
		}
	}
	return false
}

func TestPatterns_MeanWhatTheyMeanToGit(t *testing.T) {
	for _, c := range []struct {
		patterns string // one a line
		yes, no  string // paths
	}{
		// Without a slash: the name, at every depth.
		{"foo", "foo foo/ a/foo a/b/foo/ foo/x", "foox xfoo Foo a/foox"},
		{"*.log", "a.log .log x/y.log a.log/z", "a.logs log a.log2"},
		{"a*", "a ab a/ x/ab", "ba xa"},
		{"*", "a a/b .hidden", ""},
		{"**", "a a/b", ""},
		{"a*b*c", "abc axbxc abbc aXbYc x/abcbc", "ab abcd acb"},
		{"f?o", "foo fxo x/f.o", "fo fooo f/o"},
		{"a**b", "ab axxb", "a/b"},
		{"***", "a", ""},

		// A slash at the end: directories only.
		{"foo/", "foo/ a/foo/ foo/x", "foo a/foo"},
		{"*.d/", "x.d/ a/x.d/y", "x.d"},

		// Any other slash: the whole path.
		{"/foo", "foo foo/ foo/x", "a/foo"},
		{"/*.c", "x.c", "a/x.c"},
		{"a/b", "a/b a/b/c", "x/a/b b a"},
		{"/a/b/", "a/b/ a/b/c", "a/b x/a/b/"},
		{"a/*", "a/b a/b/c a/.x", "a a/ x/a/b"},
		{"a/*/c", "a/b/c a/x/c/d", "a/c a/b/b/c"},
		{"a/b?/c*d", "a/bx/cd a/bx/cxd", "a/b/cd a/bx/c/d"},

		// Two stars as a component: any number of them.
		{"**/foo", "foo a/foo a/b/foo foo/x", "foox"},
		{"**/a/b", "a/b x/a/b x/y/a/b", "a b a/x/b"},
		{"a/**", "a/b a/b/c a/b/", "a a/ x/a/b"},
		{"a/**/b", "a/b a/x/b a/x/y/b a/b/b", "a/bb x/a/b b"},
		{"a/**/b/**/c", "a/b/c a/x/b/y/z/c a/b/b/c a/b/c/c", "a/c a/b a/x/c"},
		{"/**/x", "x a/x a/b/x", "a"},
		{"**/", "a/ a/b/", "a"},
		{"a/**/**/b", "a/b a/x/b", "ab"},
		{"a/**b", "a/b a/xb", "a/x/b"},
		{"a**/b", "a/b ax/b", "a/x/b"},
		{"a/***/b", "a/b a/x/y/b", "ab"},

		// Classes.
		{"[abc]x", "ax bx cx", "dx x abx"},
		{"[a-c]", "a b c", "d A -"},
		{"[!a-c]", "d - A", "a b c dd"},
		{"[^a]", "b", "a"},
		{"[]]", "]", "[ x"},
		{"[]a]", "] a", "b"},
		{"[!]]", "a", "]"},
		{"[a-]", "a -", "b"},
		{"[-a]", "a -", "b"},
		{`[\]x]`, "] x", `\`},
		{`[a\-z]`, "a - z", "m"},
		{"[[:digit:]]*", "1 1a", "a a1"},
		{"[[:upper:][:digit:]_]", "A 9 _", "a"},
		{"[![:alpha:]]", "1 _", "a Z"},
		{"[z-a]", "z", "a m"}, // a range that goes backwards is its first byte
		{"x[*]", "x*", "xx"},
		{"x[?]y", "x?y", "xay"},
		{"[[]", "[", "]"},

		// Escapes.
		{`\!x`, "!x", "x"},
		{`\#x`, "#x", "x"},
		{`a\*`, "a*", "ab"},
		{`a\?`, "a?", "ab"},
		{`\a`, "a", `\a`},
		{`a\\b`, `a\b`, "ab"},
		{`\[x]`, "[x]", "x"},

		// The last one decides, except below what is excluded.
		{"*.log\n!keep.log", "a.log d/b.log", "keep.log d/keep.log"},
		{"!keep.log\n*.log", "keep.log", "a"},
		{"d/\n!d/x", "d/x d/", "x"},
		{"/d/*\n!/d/x", "d/y d/y/x", "d/x d/x/y d/"},
		{"/*\n!/a\n/a/*\n!/a/b", "x a/c", "a/ a/b a/b/c"},
		{"*\n!*/\n!*.go", "a.c d/a.c", "a.go d/ d/e/f.go"},
		{"a\n!a\na", "a", "b"},

		// Lines.
		{"# a comment\n\n   \n\\#x", "#x", "# a comment"},
		{"a   ", "a", "a\u00a0"},
		{"a\\ ", "a\u0020", "a"},
		{"a\r", "a", "a\r"},
		{"a b", "", "a b2"},

		// Bytes.
		{"\xff*", "\xff \xffx", "\xfe"},
		{"?", "a", "ä"},
		{"??", "ä ab", "a"},
		{"[ä]x", "", "ax"},
		{"ä", "ä", "a"},
	} {
		m, err := source.NewMatcher(nil, strings.Split(c.patterns, "\n"))
		if err != nil {
			t.Errorf("%q: %v", c.patterns, err)
			continue
		}
		for want, paths := range map[bool]string{true: c.yes, false: c.no} {
			for p := range strings.SplitSeq(paths, " ") {
				// Blanks separate, so the one path that ends with one is written another way.
				if c.patterns == "a\\ " && want {
					p = "a "
				}
				if p != "" && excluded(m, p) != want {
					t.Errorf("%q: got excluded(%q) = %v", c.patterns, p, !want)
				}
			}
		}
	}
}

func TestPatterns_OfOptionsAreNoLines(t *testing.T) {
	m, err := source.NewMatcher([]string{"#x", "y "}, nil)
	must(t, err)
	if !excluded(m, "#x") || !excluded(m, "y ") || excluded(m, "y") {
		t.Error("a pattern given alone was read as a line of a file")
	}
}

func TestPatterns_RefuseWhatCanNotMatch(t *testing.T) {
	for _, p := range []string{"", "/", "!", "!/", "//", "a//b", "[", "[a", "[!", "[a-", "[]", `a\`, `[\`, "[[:nothing:]]", "a[/]b", "x\x00", strings.Repeat("x", 5000)} {
		if _, err := source.NewMatcher([]string{p}, nil); err == nil {
			t.Errorf("%.20q: got no error", p)
		}
	}
}

func TestPatterns_NeverTakeLong(t *testing.T) {
	m, err := source.NewMatcher([]string{strings.Repeat("*a", 100) + "*b", strings.Repeat("**/a/", 200) + "b"}, nil)
	must(t, err)
	dirs := strings.Split(strings.TrimSuffix(strings.Repeat("a/", 2000), "/"), "/")
	start := time.Now()
	if m.Excluded(dirs, strings.Repeat("a", 255), false) {
		t.Error("got a match")
	}
	if d := time.Since(start); d > 2*time.Minute { // all ways there are to match would take years
		t.Errorf("it took %v", d)
	}
}

func FuzzPatterns(f *testing.F) {
	for _, s := range []string{"*.log", "/a/**/b", "[a-z]?", "!x/", `\[`, "**/", "a/[!b]/c", "[[:alpha:]]*"} {
		f.Add(s, "a/x/b", true)
	}
	f.Fuzz(func(t *testing.T, pattern, p string, directory bool) {
		m, err := source.NewMatcher([]string{pattern}, nil)
		if err != nil || strings.HasPrefix(pattern, "!") {
			return
		}
		comps := strings.Split(p, "/")
		last := len(comps) - 1
		got := m.Excluded(comps[:last], comps[last], directory)
		// Where path.Match speaks the same language, it must say the same.
		if body := strings.Trim(pattern, "/"); !strings.ContainsAny(pattern, `[\/`) && !strings.Contains(pattern, "**") {
			if want, err := path.Match(strings.ToValidUTF8(body, "x"), strings.ToValidUTF8(comps[last], "x")); err == nil && ascii(pattern+p) && got != want {
				t.Errorf("%q on %q: got %v, path.Match says %v", pattern, p, got, want)
			}
		}
		// What was excluded can be taken back by the same pattern.
		n, err := source.NewMatcher([]string{pattern, "!" + pattern}, nil)
		if err != nil || n.Excluded(comps[:last], comps[last], directory) {
			t.Errorf("%q on %q: its negation does not take it back (%v)", pattern, p, err)
		}
	})
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}
