package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/config"
)

const least = `repository: {path: /srv/b/repo, key_file: /etc/b/key}
state_dir: /srv/b/state
sources:
  - {name: bots, kind: files, paths: [/opt/gbo/data]}
`

func TestParse_GivesDefaultsToWhatIsNotSaid(t *testing.T) {
	c, err := config.Parse("c.yaml", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9000" || c.Retention.Minimum != 3 || !c.Verify.AfterBackup || c.Verify.Every != 168*time.Hour ||
		c.Zone() != time.UTC || c.Sources[0].Profile != "files" || c.GC.Schedule != "@daily" {
		t.Errorf("got %+v", c)
	}
	// Half a section leaves the other half alone, and a 0 that is said stays one.
	c, err = config.Parse("c.yaml", []byte(least+"verify: {every: 0}\ngc: {min_free: 0}\nschedules_timezone: Europe/Berlin\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Verify.AfterBackup || c.Verify.Every != 0 || c.GC.MinFree != 0 || c.GC.Schedule != "@daily" || c.Zone().String() != "Europe/Berlin" {
		t.Errorf("got %+v", c)
	}
}

func TestParse_TellsEveryMistakeByLineAndKey(t *testing.T) {
	_, err := config.Parse("c.yaml", []byte(`listne: 127.0.0.1:9000
repository: {path: srv/repo, keyfile: /etc/key}
state_dir: 7
sources:
  - name: Bots
    kind: file
    paths: /opt
  - {name: db, kind: sqlite, paths: ["/a/../b"], exclude: ["x"]}
  - {name: db, kind: files, paths: [/c], one_file_system: "yes", hooks: {before: "rm -rf /", timeout: 10}}
targets:
  Staging: {path: /srv/s}
  two: {path: /srv/b, colour: red}
retention: {minimum: 0}
verify:
limits: {body_size: 1, connections: 1.5}
memory: 12 parsecs
log: {level: warning}
schedules_timezone: Mars/Olympus
gc: &a {schedule: *a}
auth: {jwt: {issuer: x}, oidc: {issuer: "http://example.org"}}
tls: {cert_file: /a, cert_file: /b, key_file: /c}
`))
	var list config.Errors
	if !errors.As(err, &list) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		`c.yaml:1: listne: unknown key: did you mean listen?`,
		`c.yaml:2: repository.path: want an absolute path`,
		`c.yaml:2: repository.keyfile: unknown key: did you mean key_file?`,
		`c.yaml:21: tls.cert_file: stands here for the second time, the first is in line 21`,
		`c.yaml:2: repository.key_file: is missing`,
		`c.yaml:3: state_dir: want text, not 7: put it in quotes`,
		`c.yaml:5: sources[0].name: a name is made of a-z`,
		`c.yaml:6: sources[0].kind: want one of files, sqlite, postgres, s3, not "file": did you mean files?`,
		`c.yaml:7: sources[0].paths: want a list: [one, two], not "/opt"`,
		`c.yaml:8: sources[1].paths[0]: want an absolute path without ., .. and double slashes, here /b, not "/a/../b"`,
		`c.yaml:8: sources[1].exclude: belongs to kind files, not to sqlite`,
		`c.yaml:9: sources[2].name: db is the name of the source in line 8`,
		`c.yaml:9: sources[2].one_file_system: want true or false, not "yes"`,
		`c.yaml:9: sources[2].hooks.before: want a list`,
		`c.yaml:9: sources[2].hooks.timeout: want a duration like 90s, 15m, 12h or 30d, not 10`,
		`c.yaml:11: targets.Staging: a name is made of`,
		`c.yaml:12: targets.two.colour: unknown key (allowed here: path, postgres)`,
		`c.yaml:13: retention.minimum: want a number from 1 to 10000, not 0`,
		`c.yaml:14: verify: has no value`,
		`c.yaml:15: limits.body_size: want a size like 512 MiB`,
		`c.yaml:15: limits.connections: want a whole number, not 1.5`,
		`c.yaml:16: memory: want a size like 512 MiB (units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, or K, M, G, T for the latter), not "12 parsecs"`,
		`c.yaml:17: log.level: want one of debug, info, warn, error, not "warning": did you mean warn?`,
		`c.yaml:18: schedules_timezone: want the name of a time zone`,
		`c.yaml:19: gc: anchors (&name) are not understood`,
		`c.yaml:20: auth.jwt.secret_file: is missing`,
		`c.yaml:20: auth.oidc.issuer: http would carry secrets in the clear to example.org: use https`,
		`c.yaml:20: auth.oidc.introspection: is missing`,
	}
	for _, w := range want {
		found := false
		for _, e := range list {
			found = found || strings.HasPrefix(e.Error(), w)
		}
		if !found {
			t.Errorf("missing: %s", w)
		}
	}
	if len(list) != len(want) {
		t.Errorf("%d errors, want %d:\n%v", len(list), len(want), err)
	}
	for i, e := range list {
		if i > 0 && e.Line < list[i-1].Line {
			t.Errorf("line %d after %d", e.Line, list[i-1].Line)
		}
	}
}

func TestParse_JudgesAddresses(t *testing.T) {
	const tls = "tls: {cert_file: /etc/b/crt, key_file: /etc/b/tls.key}\n"
	for _, c := range []struct {
		listen, extra, want string // want: a part of the error; empty: none
	}{
		{"127.0.0.1:9000", "", ""},
		{"127.9.9.9:0", "", ""},
		{"localhost:9000", "", ""},
		{"[::1]:9000", "", ""},
		{"[::ffff:127.0.0.1]:9000", "", ""},
		{"unix:/run/backupd/api.sock", "", ""},
		{"0.0.0.0:9000", tls, ""},
		{":9000", tls, ""},
		{"[2001:db8::1]:443", tls, ""},
		{"unix:/run/backupd/api.sock", tls, "takes no tls"},
		{"0.0.0.0:9000", "", "add tls"},
		{":9000", "", "add tls"},
		{"192.168.1.5:9000", "", "add tls"},
		{"[::]:9000", "", "add tls"},
		{"::1:9000", "", "IPv6 stands in brackets"},
		{"example.org:9000", tls, "want an IP address"},
		{"127.0.0.1", "", "want host:port"},
		{"127.0.0.1:", "", "want host:port"},
		{"127.0.0.1:99999", "", "want host:port"},
		{"127.0.0.1:http", "", "want host:port"},
		{"unix:run/x", "", "absolute path"},
		{"unix:/" + strings.Repeat("x", 107), "", "107 bytes"},
	} {
		_, err := config.Parse("c.yaml", []byte(least+fmt.Sprintf("listen: %q\n", c.listen)+c.extra))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.listen, err, c.want)
		}
	}
}

func TestParse_KeepsDirectoriesOutOfOneAnother(t *testing.T) {
	base := func(repository, state, source, target string) string {
		return fmt.Sprintf("repository: {path: %s, key_file: /etc/b/key}\nstate_dir: %s\nsources:\n  - {name: bots, kind: files, paths: [%s]}\ntargets: {staging: {path: %s}}\n",
			repository, state, source, target)
	}
	for _, c := range []struct{ repository, state, source, target, want string }{
		{"/s/repo", "/s/state", "/opt", "/s/staging", ""},
		{"/s/repo", "/s/repository", "/opt", "/s/repo2", ""},
		{"/s/repo", "/s/repo/state", "/opt", "/s/staging", "state_dir"},
		{"/s/state/repo", "/s/state", "/opt", "/s/staging", "state_dir"},
		{"/s/repo", "/s/state", "/opt", "/s/repo", "targets.staging.path"},
		{"/s/repo", "/s/state", "/opt", "/s", "targets.staging.path"},
		{"/s/repo", "/s/state", "/opt", "/", "targets.staging.path"},
		{"/s/repo", "/s/state", "/opt", "/s/state/x", "targets.staging.path"},
		{"/s/repo", "/s/state", "/opt", "/opt/back", "targets.staging.path"},
		{"/s/repo", "/s/state", "/opt/data", "/opt", "sources[0].paths[0]"},
		{"/s/repo", "/s/state", "/s/repo/packs", "/x", "sources[0].paths[0]"},
		{"/opt/repo", "/s/state", "/opt", "/x", "repository.path"},
		{"/s/repo", "/s/state", "/", "/x", "state_dir"},
		{"/s/repo", "/s/state", "/], exclude: [/s/, /x", "/x", ""},
		{"/s/repo", "/s/state", "/], exclude: [s, x", "/x", "state_dir"},
		{"/s/repo", "/s/state", "/], exclude: [/s, /x, '!/s/state'", "/x", "state_dir"},
	} {
		_, err := config.Parse("c.yaml", []byte(base(c.repository, c.state, c.source, c.target)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want+": ")) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	_, err := config.Parse("c.yaml", []byte(least+"targets: {one: {path: /a/b}, two: {path: /a}}\n"))
	if err == nil || !strings.Contains(err.Error(), "targets.two.path") {
		t.Errorf("two targets in one another: %v", err)
	}
}

func TestParse_RefusesFilesMadeToHurt(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'k'; i++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", i-1), 9), ","))
	}
	for name, text := range map[string]string{
		"aliases":      bomb,
		"itself":       "sources: &a [*a]\n",
		"merge":        "repository: {<<: {path: /x}}\n",
		"depth":        strings.Repeat("[", 20_000),
		"closed depth": strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000),
		"deep keys":    strings.Repeat("? ", 5_000) + "x",
		"large":        "#" + strings.Repeat("x", config.MaxFile) + "\n" + least,
		"two files":    least + "---\n" + least,
		"tag":          "listen: !!binary MTI3\n",
		"own tag":      "repository: !run {path: /x}\n",
		"empty":        "",
		"comment":      "# nothing\n",
		"null":         "null\n",
		"a word":       "hello\n",
		"a list":       "[1, 2]\n",
		"no UTF-8":     "listen: \xff\xfe\n",
		"zero":         "listen: \"a\\0b\"\n",
		"tab":          "gc:\n\tschedule: x\n",
		"not closed":   "sources: [{name: x\n",
		"list as key":  "[a, b]: c\n",
		"many sources": "sources: [" + strings.Repeat("{},", 1001) + "]\n",
	} {
		_, err := config.Parse("c.yaml", []byte(text))
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		var list config.Errors
		if !errors.As(err, &list) || len(list) > config.MaxErrors+1 || len(err.Error()) > 100_000 {
			t.Errorf("%s: %d bytes of error: %.200v", name, len(err.Error()), err)
		}
	}
	_, err := config.Parse("c.yaml", []byte("listen: 127.0.0.1:9000\ngc: {schedule: x\nlog: {}\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "c.yaml:3: this is not YAML") && !strings.HasPrefix(err.Error(), "c.yaml:2: this is not YAML") {
		t.Errorf("a mistake of syntax: %v", err)
	}
}

func TestLoad_ReadsRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte(least), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Error(err)
	}
	if _, err := config.Load(dir); err == nil {
		t.Error("a directory was read")
	}
	if _, err := config.Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := config.Load("/dev/zero"); err == nil {
		t.Error("a device was read")
	}
	// It names programs that the daemon runs.
	if err := os.Chmod(path, 0o646); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "changed by anyone") {
		t.Errorf("one that everybody may write: got error %v", err)
	}
}

func TestParseSize_TakesUnitsAndNothingElse(t *testing.T) {
	for text, want := range map[string]config.Size{
		"0": 0, "64M": 64 << 20, "3 K": 3 << 10, "512 MiB": 512 << 20, "512MiB": 512 << 20, "2 GB": 2e9, "1 kB": 1000, "7B": 7, "4 TiB": 4 << 40,
	} {
		got, err := config.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: %d %v", text, got, err)
		}
		if again, err := config.ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s is written %s", text, got)
		}
	}
	for _, text := range []string{"", "1", "-1 MiB", "1.5 GiB", "1 mib", "MiB", "1 m", "9999999 TiB", "1 MiB ", "0x1 B", "+1 B", "1_0 B"} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestParseCores_TakesNumbersAndPercentOfOne(t *testing.T) {
	for text, want := range map[string]config.Cores{"0": 0, "0.5": 500, "2": 2000, "1.5": 1500, "150%": 1500, "50%": 500, "12.5%": 125, "0.0001": 1} {
		if got, err := config.ParseCores(text); err != nil || got != want {
			t.Errorf("%s: %d %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "-1", "+1", "1e3", "0x10", "Inf", "NaN", "1 core", "50 %", "50%%", "1025", "1_0", ".", "1.2.3"} {
		if got, err := config.ParseCores(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestParseDuration_TakesDaysAndWeeks(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "168h": 168 * time.Hour, "7d": 168 * time.Hour, "1w2d": 9 * 24 * time.Hour, "1d12h": 36 * time.Hour, "365d": 8760 * time.Hour,
	} {
		if got, err := config.ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "-1h", "+1h", "d", "1d-1h", "1.5d", "1h1d", "99999999d", "9999999h", "1 d", "2d1w"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	example, err := os.ReadFile("../../deploy/backupd.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(least))
	f.Add([]byte("a: &a [*a]\n? [x]\n: !t {<<: 1}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		slow := time.AfterFunc(2*time.Minute, func() { panic("Parse does not come back") })
		defer slow.Stop()
		c, err := config.Parse("c.yaml", text)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		var list config.Errors
		if err != nil && !errors.As(err, &list) {
			t.Fatalf("an error without a place: %v", err)
		}
	})
}
