package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
)

// openTree finds a snapshot and opens what it holds.
func openTree(r *repo.Repo, query string) (*browse.Tree, error) {
	s, err := named(r.Resolve(query))
	if err != nil {
		return nil, err
	}
	return browse.Open(r, s)
}

// pathArgument is the PATH of "ID [PATH]", or the root.
func pathArgument(args []string) string {
	if len(args) < 2 {
		return "/"
	}
	return args[1]
}

// lookUp returns the entries a path of a command line leads to, one for each part that has it.
func lookUp(ctx context.Context, t *browse.Tree, name string) ([]browse.Found, error) {
	found, err := t.Find(ctx, name)
	if errors.Is(err, browse.ErrNoPath) {
		err = noPath(ctx, t, name)
	}
	return found, err
}

// noPath is about a path that a snapshot does not hold. Paths in a snapshot are those of the host: who stands in a
// directory and names a file of it is told so.
func noPath(ctx context.Context, t *browse.Tree, name string) error {
	id := t.Snapshot().ID
	hint := fmt.Sprintf("'backupd repo ls %s' lists what it holds", id)
	if !path.IsAbs(name) {
		if abs, err := filepath.Abs(name); err == nil {
			if _, err := t.Find(ctx, abs); err == nil {
				hint = "paths are whole in a snapshot, and it has " + abs
			}
		}
	}
	return &absent{fmt.Errorf("%s: %w in %s; %s", browse.Clean(name), repo.ErrNotFound, id, hint)}
}
