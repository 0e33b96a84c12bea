package source

import (
	"fmt"
	"strings"
)

// Limits of what may be excluded. They are far above what anybody writes and keep matching cheap to reason about.
const (
	maxPattern  = 4096    // bytes of one pattern
	maxPatterns = 1 << 16 // patterns of one source
)

// patterns decides what is excluded, by the rules of gitignore with "/" in the place of the work tree:
//
//   - a pattern without a slash, or with one only at its end, is matched against the name at every depth;
//   - any other is matched against the whole path, from "/", whether it begins with a slash or not;
//   - a slash at the end matches directories only;
//   - * and ? match within a component, a component ** any number of components, at the end at least one;
//   - [abc], [a-z], [!a], [^a] and [[:alpha:]] match one byte; \ takes the meaning from the next byte;
//   - ! in front takes back what earlier patterns excluded; the last pattern that matches decides.
//
// What is below an excluded directory is not looked at, so it can not be taken back. Everything is bytes; case counts.
type patterns struct {
	rules     []rule
	wantsPath bool // some rule is matched against the whole path
}

type rule struct {
	negate, directory, whole bool
	parts                    []part // one for a rule that is matched against the name
}

// part matches one component, or any number of them.
type part struct {
	kind   partKind
	lit    string  // for the literal kinds
	tokens []token // for partGlob
}

type partKind uint8

const (
	partLiteral partKind = iota
	partPrefix           // lit*
	partSuffix           // *lit
	partAny              // *
	partGlob
	partDeep // **
)

// token is a byte, ?, * or a class of a glob.
type token struct {
	kind  tokenKind
	lit   byte
	class *[4]uint64 // a bit per byte value
}

type tokenKind uint8

const (
	tokenByte tokenKind = iota
	tokenOne
	tokenStar
	tokenClass
)

// compilePatterns takes patterns as they are, and lines of files, in which comments, empty lines and blanks at the end
// mean nothing.
func compilePatterns(list, lines []string) (*patterns, error) {
	p := &patterns{}
	for _, s := range list {
		if err := p.add(s); err != nil {
			return nil, err
		}
	}
	for i, s := range lines {
		if i == 0 {
			s = strings.TrimPrefix(s, "\ufeff") // the mark some editors put in front of a file
		}
		if s = trimLine(s); s == "" || s[0] == '#' {
			continue
		}
		if err := p.add(s); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// trimLine drops spaces at the end of a line, unless a backslash keeps them.
func trimLine(s string) string {
	s = strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
	end := len(s)
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			end = min(i+1, len(s))
		case ' ':
		default:
			end = i + 1
		}
	}
	return s[:end]
}

func (p *patterns) add(s string) error {
	r, err := compileRule(s)
	if err != nil {
		if len(s) > 80 {
			s = s[:80] + "…"
		}
		return fmt.Errorf("source: exclude pattern %q: %w", s, err)
	}
	if len(p.rules) == maxPatterns {
		return fmt.Errorf("source: more than %d exclude patterns", maxPatterns)
	}
	p.rules = append(p.rules, r)
	p.wantsPath = p.wantsPath || r.whole
	return nil
}

// patternError says what is wrong with a pattern.
type patternError string

func (e patternError) Error() string { return string(e) }

func compileRule(s string) (rule, error) {
	var r rule
	if len(s) > maxPattern {
		return r, patternError("too long")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return r, patternError("has a zero byte")
	}
	if strings.HasPrefix(s, "!") {
		r.negate, s = true, s[1:]
	}
	if strings.HasSuffix(s, "/") {
		r.directory, s = true, s[:len(s)-1]
	}
	if i := strings.IndexByte(s, '/'); i >= 0 {
		r.whole = true
		if i == 0 {
			s = s[1:]
		}
	}
	if s == "" {
		return r, patternError("matches nothing")
	}
	for comp := range strings.SplitSeq(s, "/") {
		if comp == "" {
			return r, patternError("has an empty component")
		}
		if len(comp) >= 2 && strings.Trim(comp, "*") == "" && r.whole {
			r.parts = append(r.parts, part{kind: partDeep})
			continue
		}
		q, err := compilePart(comp)
		if err != nil {
			return r, err
		}
		r.parts = append(r.parts, q)
	}
	// At the end ** stands for what is inside: at least one component.
	if n := len(r.parts); r.parts[n-1].kind == partDeep {
		r.parts = append(r.parts, part{kind: partAny})
	}
	return r, nil
}

func compilePart(s string) (part, error) {
	var tokens []token
	for i := 0; i < len(s); {
		switch s[i] {
		case '\\':
			if i+1 == len(s) {
				return part{}, patternError("ends in the middle of an escape")
			}
			tokens = append(tokens, token{lit: s[i+1]})
			i += 2
		case '?':
			tokens = append(tokens, token{kind: tokenOne})
			i++
		case '*':
			if n := len(tokens); n == 0 || tokens[n-1].kind != tokenStar {
				tokens = append(tokens, token{kind: tokenStar})
			}
			i++
		case '[':
			class, n, err := compileClass(s[i:])
			if err != nil {
				return part{}, err
			}
			tokens = append(tokens, token{kind: tokenClass, class: class})
			i += n
		default:
			tokens = append(tokens, token{lit: s[i]})
			i++
		}
	}
	return simplify(tokens), nil
}

// simplify finds the shapes nearly all patterns have.
func simplify(tokens []token) part {
	literal := func(ts []token) (string, bool) {
		b := make([]byte, 0, len(ts))
		for _, t := range ts {
			if t.kind != tokenByte {
				return "", false
			}
			b = append(b, t.lit)
		}
		return string(b), true
	}
	n := len(tokens)
	if n == 1 && tokens[0].kind == tokenStar {
		return part{kind: partAny}
	}
	if s, ok := literal(tokens); ok {
		return part{kind: partLiteral, lit: s}
	}
	if s, ok := literal(tokens[1:]); ok && tokens[0].kind == tokenStar {
		return part{kind: partSuffix, lit: s}
	}
	if s, ok := literal(tokens[:n-1]); ok && tokens[n-1].kind == tokenStar {
		return part{kind: partPrefix, lit: s}
	}
	return part{kind: partGlob, tokens: tokens}
}

// compileClass reads a class at the start of s and returns how long it is.
func compileClass(s string) (*[4]uint64, int, error) {
	const unclosed = patternError("has [ without ]")
	set := new([4]uint64)
	i, negate := 1, false
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		negate = true
		i++
	}
	// next reads one byte of the class, which a backslash may protect.
	next := func() (byte, bool) {
		if i < len(s) && s[i] == '\\' {
			i++
		}
		if i >= len(s) {
			return 0, false
		}
		i++
		return s[i-1], true
	}
	for first := true; ; first = false {
		if i >= len(s) {
			return nil, 0, unclosed
		}
		if s[i] == ']' && !first {
			i++
			break
		}
		if strings.HasPrefix(s[i:], "[:") {
			if end := strings.Index(s[i:], ":]"); end > 0 {
				member, ok := namedClasses[s[i+2:i+end]]
				if !ok {
					return nil, 0, patternError("has an unknown class name")
				}
				for c := range 256 {
					if c < 128 && member(byte(c)) {
						set[c>>6] |= 1 << (c & 63)
					}
				}
				i += end + 2
				continue
			}
		}
		lo, ok := next()
		if !ok {
			return nil, 0, unclosed
		}
		hi := lo
		if i+1 < len(s) && s[i] == '-' && s[i+1] != ']' {
			i++
			if hi, ok = next(); !ok {
				return nil, 0, unclosed
			}
		}
		set[lo>>6] |= 1 << (lo & 63) // also where the range goes backwards and has nothing else
		for c := int(lo); c <= int(hi); c++ {
			set[c>>6] |= 1 << (c & 63)
		}
	}
	if negate {
		for k := range set {
			set[k] = ^set[k]
		}
	}
	return set, i, nil
}

func between(lo, hi byte) func(byte) bool { return func(c byte) bool { return lo <= c && c <= hi } }

func lower(c byte) bool { return 'a' <= c && c <= 'z' }
func upper(c byte) bool { return 'A' <= c && c <= 'Z' }
func digit(c byte) bool { return '0' <= c && c <= '9' }
func alnum(c byte) bool { return lower(c) || upper(c) || digit(c) }
func graph(c byte) bool { return '!' <= c && c <= '~' }

// namedClasses are those of POSIX, in ASCII.
var namedClasses = map[string]func(byte) bool{
	"alnum":  alnum,
	"alpha":  func(c byte) bool { return lower(c) || upper(c) },
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"cntrl":  func(c byte) bool { return c < ' ' || c == 127 },
	"digit":  digit,
	"graph":  graph,
	"lower":  lower,
	"print":  between(' ', '~'),
	"punct":  func(c byte) bool { return graph(c) && !alnum(c) },
	"space":  func(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' },
	"upper":  upper,
	"xdigit": func(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' },
}

// excluded tells whether what stands under name in the directory at the components dirs is left out. dirs may be nil
// unless wantsPath.
func (p *patterns) excluded(dirs []string, name string, directory bool) bool {
	for i := len(p.rules) - 1; i >= 0; i-- {
		r := &p.rules[i]
		if r.directory && !directory {
			continue
		}
		if r.whole && matchPath(r.parts, dirs, name) || !r.whole && r.parts[0].match(name) {
			return !r.negate
		}
	}
	return false
}

// matchPath matches the components dirs and name. As in any glob with one kind of star, going back to the last ** is
// enough, so the work is at most len(parts) × len(dirs).
func matchPath(parts []part, dirs []string, name string) bool {
	at := func(i int) string {
		if i < len(dirs) {
			return dirs[i]
		}
		return name
	}
	total := len(dirs) + 1
	p, s, deepP, deepS := 0, 0, -1, 0
	for s < total {
		switch {
		case p < len(parts) && parts[p].kind == partDeep:
			deepP, deepS = p, s
			p++
		case p < len(parts) && parts[p].match(at(s)):
			p, s = p+1, s+1
		case deepP >= 0:
			deepS++
			p, s = deepP+1, deepS
		default:
			return false
		}
	}
	return p == len(parts)
}

func (q *part) match(name string) bool {
	switch q.kind {
	case partLiteral:
		return name == q.lit
	case partPrefix:
		return strings.HasPrefix(name, q.lit)
	case partSuffix:
		return strings.HasSuffix(name, q.lit)
	case partAny:
		return true
	case partGlob:
		return matchTokens(q.tokens, name)
	}
	return false
}

func matchTokens(tokens []token, name string) bool {
	t, s, starT, starS := 0, 0, -1, 0
	for s < len(name) {
		switch {
		case t < len(tokens) && tokens[t].kind == tokenStar:
			starT, starS = t, s
			t++
		case t < len(tokens) && tokens[t].matchByte(name[s]):
			t, s = t+1, s+1
		case starT >= 0:
			starS++
			t, s = starT+1, starS
		default:
			return false
		}
	}
	for t < len(tokens) && tokens[t].kind == tokenStar {
		t++
	}
	return t == len(tokens)
}

func (t *token) matchByte(c byte) bool {
	switch t.kind {
	case tokenByte:
		return t.lit == c
	case tokenOne:
		return true
	case tokenClass:
		return t.class[c>>6]&(1<<(c&63)) != 0
	}
	return false
}
