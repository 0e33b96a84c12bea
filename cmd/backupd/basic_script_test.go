package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"text/scanner"
)

// script is a BASIC script as the platform runs it, as far as the scripts of docs/basic go: assignments, POST, GET, TALK,
// IF with a status, FOR EACH over a list. What it does not know ends the test.
type script struct {
	t    *testing.T
	name string
	send func(method, url string, body any) (status int, text string)
	vars map[string]any
	said []string // by TALK
}

// run runs the lines and returns what was said.
func (s *script) run(text string) []string {
	s.t.Helper()
	s.vars = make(map[string]any)
	s.block(strings.Split(text, "\n"))
	return s.said
}

func (s *script) fatal(format string, a ...any) {
	s.t.Helper()
	s.t.Fatalf(s.name+": "+format, a...)
}

// block runs lines in order.
func (s *script) block(lines []string) {
	s.t.Helper()
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "'":
		case "TALK":
			text, ok := s.value(rest).(string)
			if !ok {
				s.fatal("%s: says what is no text", line)
			}
			s.said = append(s.said, text)
		case "IF":
			end := s.end(lines, i, "END IF")
			body, otherwise := lines[i+1:end], []string(nil)
			for k := range body {
				if strings.TrimSpace(body[k]) == "ELSE" {
					body, otherwise = body[:k], body[k+1:]
					break
				}
			}
			condition, ok := strings.CutSuffix(rest, " THEN")
			left, right, compared := strings.Cut(condition, " >= ")
			a, isA := s.value(left).(float64)
			b, isB := s.value(right).(float64)
			if !ok || !compared || !isA || !isB {
				s.fatal("%s: want IF number >= number THEN", line)
			}
			if a >= b {
				s.block(body)
			} else {
				s.block(otherwise)
			}
			i = end
		case "FOR":
			variable, list, ok := strings.Cut(strings.TrimPrefix(rest, "EACH "), " IN ")
			items, isList := s.value(list).([]any)
			if !ok || !isList {
				s.fatal("%s: want FOR EACH name IN list", line)
			}
			end := s.end(lines, i, "NEXT "+variable) // a bare NEXT does not do
			for _, item := range items {
				s.vars[variable] = item
				s.block(lines[i+1 : end])
			}
			i = end
		default:
			value, ok := strings.CutPrefix(rest, "= ")
			if !ok {
				s.fatal("%s: not understood", line)
			}
			s.vars[word] = s.value(value)
		}
	}
}

// end finds the line that ends what begins in line i.
func (s *script) end(lines []string, i int, with string) int {
	s.t.Helper()
	for k := i + 1; k < len(lines); k++ {
		if strings.TrimSpace(lines[k]) == with {
			return k
		}
	}
	s.fatal("%s: there is no %s", strings.TrimSpace(lines[i]), with)
	return 0
}

// value works out an expression.
func (s *script) value(text string) any {
	s.t.Helper()
	e := &expression{script: s, text: text}
	e.Init(strings.NewReader(text))
	e.Mode = scanner.ScanIdents | scanner.ScanInts | scanner.ScanStrings
	e.Error = func(_ *scanner.Scanner, message string) { s.fatal("%s: %s", text, message) }
	e.next()
	v := e.sum()
	if e.token != scanner.EOF {
		s.fatal("%s: %q is too much", text, e.TokenText())
	}
	return v
}

// expression is one that is being worked out.
type expression struct {
	scanner.Scanner
	script *script
	text   string
	token  rune
}

func (e *expression) next() { e.token = e.Scan() }

func (e *expression) take(token rune) {
	e.script.t.Helper()
	if e.token != token {
		e.script.fatal("%s: want %q, got %q", e.text, token, e.TokenText())
	}
	e.next()
}

// sum is terms joined by +.
func (e *expression) sum() any {
	v := e.term()
	for e.token == '+' {
		e.next()
		a, isA := v.(string)
		b, isB := e.term().(string)
		if !isA || !isB {
			e.script.fatal("%s: + joins texts, not %v", e.text, v)
		}
		v = a + b
	}
	return v
}

// term is a text, a number, a map, a request, a call, or the field of a variable.
func (e *expression) term() any {
	switch word := e.TokenText(); {
	case e.token == scanner.String:
		v, err := strconv.Unquote(word)
		if err != nil {
			e.script.fatal("%s: %v", e.text, err)
		}
		e.next()
		return v
	case e.token == scanner.Int:
		v, _ := strconv.ParseFloat(word, 64) // it is digits
		e.next()
		return v
	case e.token == '#':
		return e.object()
	case e.token != scanner.Ident:
		e.script.fatal("%s: %q is not understood", e.text, word)
		return nil
	case word == "true" || word == "false":
		e.next()
		return word == "true"
	case word == "GET":
		e.next()
		return e.get(e.sum())
	case word == "POST":
		e.next()
		url := e.sum()
		e.take(',')
		return e.post(url, e.sum())
	case word == "parse_json":
		e.next()
		e.take('(')
		text := e.sum()
		e.take(')')
		var v map[string]any // the platform's takes no list
		if err := json.Unmarshal([]byte(fmt.Sprint(text)), &v); err != nil {
			e.script.fatal("%s: %v: %v", e.text, err, text)
		}
		return v
	default:
		return e.field(word)
	}
}

// field is a variable, or what lies in it.
func (e *expression) field(name string) any {
	v, ok := e.script.vars[name]
	for e.next(); ok && e.token == '.'; e.next() {
		e.next()
		name += "." + e.TokenText()
		m, _ := v.(map[string]any)
		v, ok = m[e.TokenText()]
	}
	if !ok || v == nil {
		e.script.fatal("%s: there is no %s", e.text, name)
	}
	return v
}

// object is #{"name": value, …}.
func (e *expression) object() any {
	e.take('#')
	e.take('{')
	m := make(map[string]any)
	for e.token != '}' {
		name, _ := e.term().(string)
		e.take(':')
		m[name] = e.sum()
		if e.token != ',' {
			break
		}
		e.next()
	}
	e.take('}')
	return m
}

// get is the text of the answer; the platform refuses addresses of its own network, and ends the script on errors.
func (e *expression) get(url any) any {
	status, text := e.script.send("GET", fmt.Sprint(url), nil)
	if status >= 400 {
		e.script.fatal("GET ended it: %d %s", status, text)
	}
	return text
}

// post is the answer in the platform's envelope, whatever its status.
func (e *expression) post(url, body any) any {
	status, text := e.script.send("POST", fmt.Sprint(url), body)
	var data any = text
	_ = json.Unmarshal([]byte(text), &data) // what is not JSON stays a text
	return map[string]any{"status": float64(status), "data": data}
}

func TestBasicScript_RunsWhatTheScriptsUse(t *testing.T) {
	s := &script{t: t, name: "here", send: func(string, string, any) (int, string) { return 201, `{"id":"backup-1","list":["a","b"]}` }}
	got := s.run("' a comment\nr = POST \"u\", #{\"n\": 1, \"yes\": true}\nIF r.status >= 400 THEN\nTALK \"bad\"\nELSE\nTALK \"made \" + r.data.id\nEND IF\nFOR EACH x IN r.data.list\nTALK x\nNEXT x\n")
	if strings.Join(got, ",") != "made backup-1,a,b" {
		t.Errorf("got %q", got)
	}
}
