package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tool is a backup program as the harness drives it: argument lists, and how to read the id of the
// snapshot it has just taken. Each has a home of its own below the working directory, made anew by reset.
type tool struct {
	name    string
	version string
	path    string
	home    string
	env     []string
	okay    []int
	setup   [][]string // commands after reset, the last ones may need the repository
	files   map[string]string
	backup  func(t *tool, path string) []string
	stdin   func(t *tool, name string) []string
	id      func(t *tool, stdout string) string
	restore func(t *tool, id, target string) []string
	check   func(t *tool) []string
	// again restores over what is there and leaves alone what has not changed; nil where a tool can not.
	again func(t *tool, id, target string) []string
	// few restores some files out of a snapshot of dir.
	few   func(t *tool, id, dir string, names []string, target string) command
	taken int // snapshots since reset, for tools that want names
}

func (t *tool) in(name string) string { return filepath.Join(t.home, name) }

func (t *tool) command(argv []string) command {
	return command{argv: append([]string{t.path}, argv...), env: t.env, dir: t.home, okay: t.okay}
}

// reset makes an empty repository.
func (t *tool) reset(ctx context.Context) error {
	if err := os.RemoveAll(t.home); err != nil {
		return err
	}
	if err := os.MkdirAll(t.home, 0o700); err != nil {
		return err
	}
	t.taken = 0
	for name, text := range t.files {
		if err := os.WriteFile(t.in(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, argv := range t.setup {
		if err := t.command(argv).run(ctx); err != nil {
			return err
		}
	}
	return nil
}

const password = "correct horse battery staple"

// findTools looks for backupd and its peers. A peer that is not installed is left out.
func findTools(ctx context.Context, o options) ([]*tool, error) {
	candidates := []struct {
		name, variable string
		build          func(path, home string) *tool
		version        []string
	}{
		{"backupd", "", newBackupd, []string{"version"}},
		{"restic", "RESTIC", newRestic, []string{"version"}},
		{"borg", "BORG", newBorg, []string{"--version"}},
		{"kopia", "KOPIA", newKopia, []string{"--version"}},
	}
	var tools []*tool
	for _, c := range candidates {
		if len(o.only) > 0 && !slices.Contains(o.only, c.name) {
			continue
		}
		path := o.backupd
		if c.variable != "" {
			if path = os.Getenv(c.variable); path == "" {
				path = c.name
			}
		}
		found, err := exec.LookPath(path)
		if err != nil {
			if os.Getenv(c.variable) != "" || len(o.only) > 0 {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s is not here (%s), left out\n", c.name, path)
			continue
		}
		if found, err = filepath.Abs(found); err != nil {
			return nil, err
		}
		if own, _ := filepath.Abs(ownBinary); own == found {
			if err := upToDate(found, "."); err != nil {
				return nil, err
			}
		}
		t := c.build(found, filepath.Join(o.work, c.name))
		t.name, t.path = c.name, found
		_, stdout, err := command{argv: append([]string{found}, c.version...)}.measure(ctx)
		if err != nil {
			return nil, err
		}
		t.version = strings.TrimSpace(strings.SplitN(stdout, "\n", 2)[0])
		if minor := 0; c.name == "restic" {
			if n, _ := fmt.Sscanf(t.version, "restic 0.%d", &minor); n == 1 && minor < 17 {
				t.again = nil
			}
		}
		tools = append(tools, t)
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(tools, func(t *tool) bool { return t.name == name }) {
			return nil, fmt.Errorf("no tool %q; there are backupd, restic, borg, kopia", name)
		}
	}
	if len(tools) == 0 {
		return nil, errors.New("nothing to measure: no bin/backupd (make build), no restic, no borg, no kopia")
	}
	return tools, nil
}

// ownBinary is what is measured where no other is named.
const ownBinary = "bin/backupd"

// upToDate refuses a binary that is older than a source of it below root: its figures would be
// taken for those of the sources.
func upToDate(binary, root string) error {
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"bench", "docs", "testdata", "var"}, name)) {
			return fs.SkipDir
		} else if d.IsDir() || !strings.HasSuffix(name, ".go") && name != "go.mod" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := d.Info()
		if err == nil && source.ModTime().After(info.ModTime()) {
			err = fmt.Errorf("%s is older than %s: run `make build` first, or name another binary with -backupd", binary, path)
		}
		return err
	})
}

func newBackupd(_, home string) *tool {
	at := func(name string) string { return filepath.Join(home, name) }
	return &tool{
		home: home,
		okay: []int{3},
		env:  []string{"BACKUPD_REPO=" + at("repo"), "BACKUPD_KEY_FILE=" + at("key"), "BACKUPD_STATE_DIR=" + at("state")},
		setup: [][]string{
			{"repo", "init"},
		},
		backup:  func(_ *tool, path string) []string { return []string{"repo", "backup", path} },
		stdin:   func(_ *tool, name string) []string { return []string{"repo", "backup", "--stdin", name} },
		id:      func(_ *tool, stdout string) string { return last(stdout, 1) },
		restore: func(_ *tool, id, target string) []string { return []string{"repo", "restore", id, "--target", target} },
		again: func(_ *tool, id, target string) []string {
			return []string{"repo", "restore", id, "--target", target, "--overwrite", "if-changed"}
		},
		few: func(t *tool, id, _ string, names []string, target string) command {
			return t.command(append([]string{"repo", "restore", id, "--target", target, "--"}, names...))
		},
		check: func(*tool) []string { return []string{"repo", "check", "--read-data"} },
	}
}

func newRestic(_, home string) *tool {
	at := func(name string) string { return filepath.Join(home, name) }
	return &tool{
		home: home,
		env: []string{"RESTIC_REPOSITORY=" + at("repo"), "RESTIC_PASSWORD_FILE=" + at("password"), "RESTIC_CACHE_DIR=" + at("cache"),
			"RESTIC_PROGRESS_FPS=0.1"},
		files:  map[string]string{"password": password + "\n"},
		setup:  [][]string{{"init"}},
		backup: func(_ *tool, path string) []string { return []string{"backup", "--json", path} },
		stdin: func(_ *tool, name string) []string {
			return []string{"backup", "--json", "--stdin", "--stdin-filename", name}
		},
		id: func(_ *tool, stdout string) string {
			var summary struct {
				ID string `json:"snapshot_id"`
			}
			_ = json.Unmarshal([]byte(last(stdout, 1)), &summary) // an empty id is refused by restore
			return summary.ID
		},
		restore: func(_ *tool, id, target string) []string { return []string{"restore", id, "--target", target} },
		again: func(_ *tool, id, target string) []string {
			return []string{"restore", id, "--target", target, "--overwrite", "if-changed"}
		},
		few: func(t *tool, id, _ string, names []string, target string) command {
			argv := []string{"restore", id, "--target", target}
			for _, name := range names {
				argv = append(argv, "--include", name)
			}
			return t.command(argv)
		},
		check: func(*tool) []string { return []string{"check", "--read-data"} },
	}
}

func newBorg(_, home string) *tool {
	at := func(name string) string { return filepath.Join(home, name) }
	archive := func(t *tool) string { return fmt.Sprintf("%s::a%d", at("repo"), t.taken) }
	return &tool{
		home:  home,
		env:   []string{"BORG_PASSPHRASE=" + password, "BORG_BASE_DIR=" + at("base"), "BORG_EXIT_CODES=legacy"},
		okay:  []int{1}, // warnings, such as a file that is a socket
		setup: [][]string{{"init", "--encryption=repokey-blake2", at("repo")}},
		backup: func(t *tool, path string) []string {
			return []string{"create", "--compression", "zstd,1", archive(t), path}
		},
		stdin: func(t *tool, name string) []string {
			return []string{"create", "--compression", "zstd,1", "--stdin-name", name, archive(t), "-"}
		},
		id: func(t *tool, _ string) string { return archive(t) },
		restore: func(_ *tool, id, target string) []string {
			return []string{"extract", "--numeric-ids", id} // into the working directory, see inTarget
		},
		few: func(t *tool, id, _ string, names []string, target string) command {
			argv := []string{"extract", "--numeric-ids", id}
			for _, name := range names {
				argv = append(argv, strings.TrimPrefix(name, "/"))
			}
			c := t.command(argv)
			c.dir = target
			return c
		},
		check: func(*tool) []string { return []string{"check", "--verify-data", at("repo")} },
	}
}

func newKopia(_, home string) *tool {
	at := func(name string) string { return filepath.Join(home, name) }
	return &tool{
		home: home,
		env: []string{"KOPIA_PASSWORD=" + password, "KOPIA_CONFIG_PATH=" + at("config"), "KOPIA_CACHE_DIRECTORY=" + at("cache"),
			"KOPIA_LOG_DIR=" + at("log"), "KOPIA_CHECK_FOR_UPDATES=false"},
		setup: [][]string{
			{"repository", "create", "filesystem", "--path", at("repo")},
			// Without keep-latest it drops what it thinks is too old while the bench goes on.
			{"policy", "set", "--global", "--compression=zstd-fastest", "--keep-latest=1000"},
		},
		backup: func(_ *tool, path string) []string {
			return []string{"snapshot", "create", "--json", "--no-progress", path}
		},
		stdin: func(t *tool, name string) []string {
			return []string{"snapshot", "create", "--json", "--no-progress", "--stdin-file", name, t.in("stream")}
		},
		id: func(_ *tool, stdout string) string {
			var manifest struct {
				ID string `json:"id"`
			}
			_ = json.Unmarshal([]byte(last(stdout, 1)), &manifest) // an empty id is refused by restore
			return manifest.ID
		},
		restore: func(_ *tool, id, target string) []string {
			return []string{"snapshot", "restore", "--no-progress", id, target}
		},
		few: func(t *tool, id, dir string, names []string, target string) command { // one path a call is all it takes
			c := shell(target, `kopia=$1 id=$2 dir=$3; shift 3; for f; do "$kopia" snapshot restore --no-progress "$id/${f#"$dir"/}" "./${f##*/}"; done`,
				append([]string{t.path, id, dir}, names...)...)
			c.env = t.env
			return c
		},
		check: func(*tool) []string {
			return []string{"snapshot", "verify", "--verify-files-percent=100", "--no-progress"}
		},
	}
}

// inTarget is where a tool puts path when it restores to target, and the command that does it.
func (t *tool) inTarget(id, path, target string) (command, string) {
	c := t.command(t.restore(t, id, target))
	switch t.name {
	case "borg":
		c.dir = target
		return c, filepath.Join(target, path)
	case "kopia": // the snapshot's root, not its path: a snapshot of one file becomes that file
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			landed := filepath.Join(target, filepath.Base(path))
			return t.command(t.restore(t, id, landed)), landed
		}
		return c, target
	}
	return c, filepath.Join(target, path)
}

// landed is where the row few finds a file again.
func (t *tool) landed(name, dir, target string) string {
	if t.name == "kopia" {
		return filepath.Join(target, filepath.Base(name))
	}
	return filepath.Join(target, name)
}
