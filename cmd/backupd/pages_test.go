package main

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// page is a document whose commands are typed as they stand, from its top to its end.
type page struct {
	file string
	// aside are the lines that are not typed, and why.
	aside map[string]string
	// instead are the lines that something else is done for.
	instead map[string]func(*newcomer) error
}

var pages = []page{
	{
		file: "README.md",
		aside: map[string]string{
			"git clone … && cd backupd": "the clone is made by the test, without a network",
			"make demo":                 "takes programs that this test does without, and its steps are those of other tests",
			"make test":                 "is what runs this",
		},
		instead: map[string]func(*newcomer) error{"make run": (*newcomer).makeRun},
	},
	{
		file:    "docs/basic/README.md",
		instead: map[string]func(*newcomer) error{},
	},
	{
		file: "deploy/README.md",
		instead: map[string]func(*newcomer) error{
			// make boot does it with a systemd.
			"systemctl daemon-reload && systemctl enable --now backupd": (*newcomer).startUnit,
		},
	},
}

// typed are the programs that a page may call.
var typed = []string{"backupd", "bin/backupd", "install"}

// newcomer is who does what a page says: on a machine that is one directory, which holds a clone and stands in place of
// the directories of the system that pages name.
type newcomer struct {
	t       *testing.T
	h       *bothost // below var, as the configuration wants it
	clone   string   // below /tmp, as people do
	env     []string
	printed []string // commands that make run gave
	end     []func()
}

// systemPath finds the paths of a line that belong to the machine.
var systemPath = regexp.MustCompile(`(^|[\s"'=\[:,])(/(?:etc|opt|srv|backup|var/lib|usr/local)/)`)

func (n *newcomer) here(text string) string {
	return systemPath.ReplaceAllString(text, "${1}"+n.h.dir+"${2}")
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	h := newHost(t)
	n := &newcomer{t: t, h: h, clone: filepath.Join(t.TempDir(), "clone"), env: append(os.Environ(), "PATH="+h.dir+":"+os.Getenv("PATH"), "BACKUPD_STATE_DIR="+h.path("state-by-hand"), "XDG_STATE_HOME="+h.path("xdg"))}
	top := filepath.Join("..", "..")
	database := sure(os.ReadFile(filepath.Join(top, "testdata", "bots", "botserver.db")))
	example := n.here(string(sure(os.ReadFile(filepath.Join(top, "deploy", "backupd.example.yaml")))))
	for path, content := range map[string][]byte{
		n.clone + "/Makefile":                                      sure(os.ReadFile(filepath.Join(top, "Makefile"))),
		n.clone + "/scripts/run.sh":                                sure(os.ReadFile(filepath.Join(top, "scripts", "run.sh"))),
		n.clone + "/testdata/bots/botserver.db":                    database,
		n.clone + "/testdata/bots/a.gbai/hi.bas":                   []byte("TALK \"hi\"\n"),
		h.path("opt/gbo/data/a.gbai/hi.bas"):                       []byte("TALK \"hi\"\n"),
		h.path("opt/botserver/data/botserver.db"):                  database,
		h.path("usr/local/share/doc/backupd/backupd.example.yaml"): []byte(strings.NewReplacer("127.0.0.1:9000", "127.0.0.1:0", "temporary: false", "temporary: true").Replace(example)),
	} {
		ok(t, os.MkdirAll(filepath.Dir(path), 0o755))
		ok(t, os.WriteFile(path, content, 0o755))
	}
	ok(t, os.MkdirAll(h.path("etc"), 0o755))
	ok(t, os.Mkdir(n.clone+"/bin", 0o755))
	ok(t, os.Symlink(h.exe, n.clone+"/bin/backupd"))
	return n
}

// lines are the lines between fences of a page. What begins with [ is a file of systemd's, which make boot puts in place.
func (page) lines(text string) (lines []string) {
	for i, block := range strings.Split(text, "```") {
		if i%2 == 0 || strings.HasPrefix(strings.TrimSpace(block), "[") {
			continue
		}
		for line := range strings.Lines(block) {
			if line, _, _ = strings.Cut(line, " #"); strings.TrimSpace(line) != "" {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// follow does what a page says and returns what did not work, with the lines that were done.
func (n *newcomer) follow(p page, text string) (done []string, err error) {
	unused := slices.Concat(slices.Collect(maps.Keys(p.aside)), slices.Collect(maps.Keys(p.instead)))
	defer func() {
		for _, end := range slices.Backward(n.end) {
			end()
		}
		n.end = nil
	}()
	for _, line := range p.lines(text) {
		unused = slices.DeleteFunc(unused, func(s string) bool { return s == line })
		if p.aside[line] != "" {
			continue
		}
		if do := p.instead[line]; do != nil {
			if err := do(n); err != nil {
				return done, fmt.Errorf("%s: %s: %w", p.file, line, err)
			}
			continue
		}
		if word, _, _ := strings.Cut(line, " "); !slices.Contains(typed, word) {
			return done, fmt.Errorf("%s: %s: this test does not know how to type it: say so in its table, with the reason", p.file, line)
		}
		if out, err := n.shell(n.here(line)); err != nil {
			return done, fmt.Errorf("%s: %s: %w\n%s", p.file, line, err, out)
		}
		done = append(done, line)
	}
	if len(unused) > 0 {
		return done, fmt.Errorf("%s does not have %q any more", p.file, unused)
	}
	return done, nil
}

func (n *newcomer) shell(line string) (string, error) {
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = n.clone, n.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// begin runs a command that goes on, as the foreground of a terminal of its own, until it has printed the word.
func (n *newcomer) begin(word string, args ...string) (*exec.Cmd, *served, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = n.clone, n.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d := &served{h: n.h, cmd: cmd, ended: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = d, d
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	go func() { d.ended <- cmd.Wait() }()
	n.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // it has ended in a test that passed
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(d.logged(), word) {
			return cmd, d, nil
		}
		select {
		case err := <-d.ended:
			return nil, nil, fmt.Errorf("it ended: %w\n%s", err, d.logged())
		default:
		}
	}
	return nil, nil, fmt.Errorf("it did not say %q\n%s", word, d.logged())
}

// interrupt types Ctrl-C and returns how the command ended.
func interrupt(cmd *exec.Cmd, d *served) error {
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		return err
	}
	select {
	case err := <-d.ended:
		if !strings.Contains(d.logged(), "msg=stopped") {
			return fmt.Errorf("the daemon did not drain\n%s", d.logged())
		}
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("it did not end\n%s", d.logged())
	}
}

// lastWord is what scripts/run.sh ends its words with.
const lastWord = "Ctrl-C ends the daemon."

// makeRun does make run, but for building, and keeps what it prints. At the end of the page it types Ctrl-C.
func (n *newcomer) makeRun() error {
	var cmd *exec.Cmd
	var d *served
	env := n.env
	for try := 1; ; try++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		address := l.Addr().String()
		l.Close()
		n.env = append(slices.Clone(env), "LISTEN="+address)
		if cmd, d, err = n.begin(lastWord, "make", "-o", "build", "run"); err == nil {
			break
		}
		// Somebody else may have taken the port meanwhile.
		if try == 3 || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
	for line := range strings.Lines(d.logged()) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		if rest, found := strings.CutPrefix(line, "export "); found {
			out, err := n.shell("export " + rest + "; env | grep ^BACKUPD_[ST][EO]")
			if err != nil {
				return err
			}
			n.env = append(n.env, strings.Fields(out)...)
		} else if strings.HasPrefix(line, "bin/backupd ") {
			n.printed = append(n.printed, strings.TrimSpace(line))
		}
	}
	n.end = append(n.end, func() {
		// make itself ends by the signal; that is no failure of what it ran.
		_ = interrupt(cmd, d)
		if text := d.logged(); !strings.Contains(text, "msg=stopped") || strings.Contains(text, "***") {
			n.t.Errorf("Ctrl-C did not end make run well:\n%s", text)
		}
	})
	return nil
}

// startUnit runs what ExecStart= of the unit says.
func (n *newcomer) startUnit() error {
	unit := sure(os.ReadFile(filepath.Join("..", "..", "deploy", "backupd.service")))
	_, line, found := strings.Cut(string(unit), "\nExecStart=/usr/local/bin/")
	if !found {
		return fmt.Errorf("the unit starts another program")
	}
	line, _, _ = strings.Cut(line, "\n")
	cmd, d, err := n.begin("msg=ready", "sh", "-c", "exec "+n.here(line))
	if err != nil {
		return err
	}
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(d.logged())
	if address == nil {
		return fmt.Errorf("it does not say where it listens")
	}
	n.env = append(n.env, "BACKUPD_SERVER=http://"+address[1])
	n.end = append(n.end, func() {
		if err := interrupt(cmd, d); err != nil {
			n.t.Errorf("the daemon: %v", err)
		}
	})
	return nil
}

// What the pages for newcomers tell them to type works.
func TestPages_CommandsWorkAsTheyStand(t *testing.T) {
	counts := map[string]int{"README.md": 7, "docs/basic/README.md": 2, "deploy/README.md": 9}
	for _, p := range pages {
		t.Run(filepath.Dir(p.file), func(t *testing.T) {
			t.Parallel()
			n := newNewcomer(t)
			if strings.HasPrefix(p.file, "docs") { // its host is set up
				for _, line := range []string{"install -D -m 0600 /usr/local/share/doc/backupd/backupd.example.yaml /etc/backupd/backupd.yaml", "backupd repo init --repo /var/lib/backupd/repo --key-file /etc/backupd/key"} {
					if out, err := n.shell(n.here(line)); err != nil {
						t.Fatalf("%s: %v\n%s", line, err, out)
					}
				}
			}
			done, err := n.follow(p, readPage(t, p))
			if err != nil {
				t.Fatal(err)
			}
			if len(done) != counts[p.file] {
				t.Errorf("typed %d lines, want %d: %q", len(done), counts[p.file], done)
			}
			came := map[string]string{"README.md": "srv/restored", "deploy/README.md": "var/lib/backupd/staging"}
			if dir := came[p.file]; dir != "" {
				n.cameBack(n.h.path(dir), n.h.path("opt/gbo/data/a.gbai/hi.bas"))
			}
			if p.file != "README.md" {
				return
			}
			// The three commands that make run prints are the page's.
			if got := done[len(done)-3:]; !slices.Equal(got, n.printed) {
				t.Errorf("the page has %q, make run prints %q", got, n.printed)
			}
			n.cameBack(n.clone+"/var/run/staging", n.clone+"/testdata/bots/a.gbai/hi.bas")
			n.goesOn()
		})
	}
}

// cameBack compares a file with what was restored of it.
func (n *newcomer) cameBack(target, name string) {
	n.t.Helper()
	want := sure(os.ReadFile(name))
	if got, err := os.ReadFile(target + name); err != nil || !bytes.Equal(got, want) {
		n.t.Errorf("what came back of %s: %q, %v", name, got, err)
	}
}

// goesOn starts again what make run has left: the same token works, the backup is there, Ctrl-C is a good end, and who
// has the address is told in one line.
func (n *newcomer) goesOn() {
	n.t.Helper()
	token := sure(os.ReadFile(n.clone + "/var/run/token"))
	cmd, d, err := n.begin(lastWord, "scripts/run.sh")
	ok(n.t, err)
	if out, err := n.shell("bin/backupd list"); err != nil || !strings.Contains(out, "completed") {
		n.t.Errorf("list after a restart: %v\n%s", err, out)
	}
	if out, err := n.shell("scripts/run.sh"); err == nil || !strings.Contains(out, "is running already, on http://127.0.0.1:") {
		n.t.Errorf("a second one beside it: %v\n%s", err, out)
	}
	if err := interrupt(cmd, d); err != nil {
		n.t.Errorf("Ctrl-C: %v\n%s", err, d.logged())
	}
	if got := sure(os.ReadFile(n.clone + "/var/run/token")); !bytes.Equal(got, token) || !strings.Contains(d.logged(), string(token)) {
		n.t.Error("the second time it has another token")
	}
}

func readPage(t *testing.T, p page) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", p.file))
	ok(t, err)
	return string(b)
}

// The control of the test above: pages that lie, say something unknown, or have lost what its table names.
func TestPages_ThatLieAreNoticed(t *testing.T) {
	readme := pages[0]
	readme.instead = map[string]func(*newcomer) error{"make run": func(*newcomer) error { return nil }}
	for _, c := range []struct {
		page           page
		old, new, want string
	}{
		{readme, "--target /srv", "--taget /srv", "unknown flag: --taget"},
		{readme, "repo restore latest ", "repo restore newest ", "repo restore newest"},
		{readme, "backupd repo init   ", "backup repo init   ", "does not know how to type it"},
		{readme, "\nmake demo ", "\nmake dmo ", "does not know how to type it"},
		{pages[2], "--expires 365d", "--expires 365y", "--expires 365y"},
		{pages[2], "\nsystemctl daemon-reload", "\nsystemctl start", "does not know how to type it"},
	} {
		t.Run(strings.TrimSpace(c.new), func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(readPage(t, c.page), c.old, c.new, 1)
			if text == readPage(t, c.page) {
				t.Fatalf("%s does not have %q", c.page.file, c.old)
			}
			if _, err := newNewcomer(t).follow(c.page, text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("in place of %q: got %v", c.old, err)
			}
		})
	}
	text, _, _ := strings.Cut(readPage(t, readme), "## Using it")
	if _, err := newNewcomer(t).follow(readme, strings.Replace(text, "make demo ", "", 1)); err == nil || !strings.Contains(err.Error(), "any more") {
		t.Errorf("a page without a line of the table: got %v", err)
	}
}

// inProse finds the commands that stand in sentences.
var inProse = regexp.MustCompile("`backupd ([^`]*)`")

// unknownInProse are the commands in the sentences of a text that do not exist, or not with these flags.
func unknownInProse(text string) (n int, unknown []string) {
	for _, m := range inProse.FindAllStringSubmatch(text, -1) {
		words := strings.Fields(strings.ReplaceAll(m[1], "…", " x "))
		choices := []string{""}
		for i, w := range words {
			if strings.Contains(w, "|") { // "create|list" is two commands
				choices = strings.Split(w, "|")
				words[i] = "|"
			}
		}
		for _, choice := range choices {
			n++
			line := slices.Clone(words)
			if i := slices.Index(line, "|"); i >= 0 {
				line[i] = choice
			}
			root := (&program{}).root()
			root.InitDefaultHelpCmd()
			root.InitDefaultCompletionCmd()
			c, rest, err := root.Find(line)
			if err == nil && c.HasSubCommands() && len(rest) > 0 && rest[0] != "x" {
				err = fmt.Errorf("%s has no %s", c.CommandPath(), rest[0])
			}
			if err == nil {
				err = c.ParseFlags(rest)
			}
			if err != nil {
				unknown = append(unknown, fmt.Sprintf("backupd %s: %v", strings.Join(line, " "), err))
			}
		}
	}
	return n, unknown
}

func TestPages_NameCommandsThatExist(t *testing.T) {
	found := 0
	for _, name := range []string{"README.md", "SECURITY.md", "CHANGELOG.md", "docs/basic/README.md", "deploy/README.md", "docs/reliability.md", "docs/api/openapi.yaml"} {
		n, unknown := unknownInProse(readPage(t, page{file: name}))
		for _, u := range unknown {
			t.Errorf("%s: %s", name, u)
		}
		found += n
	}
	if found < 15 {
		t.Errorf("only %d commands were found", found)
	}
	for _, lie := range []string{"`backupd token make`", "`backupd repo chek`", "`backupd serve --conf x`", "`backupd token create|forge`", "`backupd servee`"} { // the control
		if _, unknown := unknownInProse(lie); len(unknown) != 1 {
			t.Errorf("%s: got %q", lie, unknown)
		}
	}
}
