package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/generalbots/backupd/crypto"
	"github.com/generalbots/backupd/internal/store"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/pflag"
)

// access is how a command gets at a repository.
type access struct {
	repo       string
	key        string
	passphrase string
	recovery   string
	stateDir   string
	config     string // of a daemon, in place of the others
	memory     string // to stay below, or empty
}

func (a *access) flags(f *pflag.FlagSet) {
	f.StringVar(&a.repo, "repo", "", "`DIR` of the repository (or BACKUPD_REPO)")
	f.StringVar(&a.key, "key-file", "", "key `FILE` that opens the repository (or BACKUPD_KEY_FILE)")
	f.StringVar(&a.passphrase, "passphrase-file", "", "`FILE` with the passphrase in it (or BACKUPD_PASSPHRASE_FILE)")
	f.StringVar(&a.recovery, "recovery-file", "", "`FILE` with the recovery code in it")
	f.StringVar(&a.config, "config", "", "configuration `FILE` of the daemon, which says all of this; flags for the key go before it")
	f.StringVar(&a.memory, "memory", "", "stay below `SIZE` of memory, 64M at least (otherwise GOMEMLIMIT, or about 128M); hashing a passphrase takes more for a moment")
	f.StringVar(&a.stateDir, "state-dir", "", "`DIR` for the index and what this host remembers of the repository (or BACKUPD_STATE_DIR; otherwise REPOSITORY-ID below $XDG_STATE_HOME/backupd)")
}

// or returns the value of a flag, or of the variable that stands in for it.
func (p *program) or(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return p.env(variable)
}

// configured takes from a configuration what flags did not say.
func (a *access) configured(credentials string) error {
	if a.config == "" {
		return nil
	}
	if a.repo != "" || a.stateDir != "" {
		return &usageError{"backupd repo", errors.New("--config says which repository and state directory: leave --repo and --state-dir out")}
	}
	c, err := loadConfig(a.config)
	if err != nil {
		return err
	}
	a.config, a.repo, a.stateDir = "", c.Repository.Path, c.StateDir
	if a.key == "" && a.passphrase == "" && a.recovery == "" {
		a.key, a.passphrase = opening(c, credentials)
	}
	return nil
}

func (p *program) repoDir() (string, error) {
	if err := p.access.configured(p.env("CREDENTIALS_DIRECTORY")); err != nil {
		return "", err
	}
	dir := p.or(p.access.repo, "BACKUPD_REPO")
	if dir == "" {
		return "", errors.New("which repository? give --repo DIR or --config FILE, or set BACKUPD_REPO")
	}
	return dir, nil
}

// openStore opens the directory of an existing repository and reads which one it is.
func (p *program) openStore(ctx context.Context) (*store.Dir, crypto.RepoID, error) {
	dir, err := p.repoDir()
	if err != nil {
		return nil, crypto.RepoID{}, err
	}
	return openStoreAt(ctx, dir)
}

// openStoreAt opens the directory of a repository whose place is known.
func openStoreAt(ctx context.Context, dir string) (_ *store.Dir, id crypto.RepoID, err error) {
	st, err := store.OpenDir(dir)
	if err == nil {
		if id, err = repo.ReadID(ctx, st); err == nil {
			return st, id, nil
		}
		st.Close()
		err = fmt.Errorf("repository %s: %w", dir, err)
	}
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, repo.ErrNoRepository) {
		err = &noRepository{dir}
	}
	return nil, id, err
}

// noRepository tells where none was found.
type noRepository struct{ dir string }

// Error names the place and the way out.
func (e *noRepository) Error() string { return "no repository at " + e.dir }

// Is makes it a repo.ErrNoRepository.
func (e *noRepository) Is(target error) bool { return target == repo.ErrNoRepository }

// state returns the state directory of a repository on this host. Without one nothing is remembered and the index is made
// in memory each time, which is what a rescue system without a home wants.
func (p *program) state(id crypto.RepoID) string {
	if dir := p.or(p.access.stateDir, "BACKUPD_STATE_DIR"); dir != "" {
		return dir
	}
	base := p.env("XDG_STATE_HOME")
	if base == "" && p.env("HOME") != "" {
		base = filepath.Join(p.env("HOME"), ".local", "state")
	}
	if !filepath.IsAbs(base) {
		p.say("no state directory: neither --state-dir nor XDG_STATE_HOME nor HOME is set, so this host will not remember the repository")
		return ""
	}
	return filepath.Join(base, "backupd", id.String())
}

// withRepo opens the repository for do and closes it again.
func (p *program) withRepo(ctx context.Context, do func(*repo.Repo) error) (err error) {
	memory, err := p.memoryFor()
	if err != nil {
		return &usageError{"backupd repo", err}
	}
	st, id, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	creds, err := p.credentials(ctx)
	if err != nil {
		return err
	}
	state := p.state(id)
	p.writes = []string{p.or(p.access.repo, "BACKUPD_REPO")}
	if state != "" {
		p.writes = append(p.writes, state)
	}
	stop := p.meter(2, func() reading { return reading{what: "opening the repository", measure: byTime} })
	r, err := repo.Open(ctx, st, creds, repo.Options{StateDir: state, Program: "backupd " + version, Memory: memory, Logger: slog.New(&talk{p: p})})
	stop()
	for _, c := range creds {
		c.Wipe()
	}
	if err != nil {
		return err
	}
	p.limitMemory(memory)
	shown := p.warn(r, 0)
	err = do(r)
	p.warn(r, shown)
	if cerr := r.Close(); cerr != nil && err == nil {
		// All that is committed stands; what could not be closed is a cache.
		p.say("warning: %s", printable(cerr.Error()))
	}
	return err
}

// warn prints the warnings of a repository from the first-th on and returns how many there are.
func (p *program) warn(r *repo.Repo, first int) int {
	all := r.Warnings()
	for _, w := range all[min(first, len(all)):] {
		p.say("warning: %s", printable(w))
	}
	return len(all)
}

// host is the name snapshots of this host carry.
func host() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this host: %v", err)
	}
	return name, nil
}
