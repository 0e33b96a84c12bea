package main

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) findCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "find NAME",
		Short: "Find files by name in all snapshots",
		Long: `Looks through all snapshots, oldest first, for entries called NAME, which may hold *, ? and [a-z]. A NAME with a slash in
it is compared with the whole path. Each line has the snapshot, the time of modification, the size and the path.`,
		Example: "  backupd repo find '*.docx'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := path.Match(args[0], ""); err != nil {
				return &usageError{cmd.CommandPath(), errors.New("NAME is not a pattern: a [ has no end, or a \\ stands last")}
			}
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error { return p.find(cmd.Context(), r, args[0]) })
		},
	}
}

// foundValue is what --json prints of a find.
type foundValue struct {
	Snapshot string `json:"snapshot"`
	entryValue
}

func (p *program) find(ctx context.Context, r *repo.Repo, pattern string) error {
	whole := strings.Contains(pattern, "/")
	if whole && pattern[0] != '/' {
		pattern = "/" + pattern
	}
	values := p.list("")
	count := 0
	// What matched nothing below it once needs not be gone through again in the next snapshot.
	barren := dirSet{}
	for _, s := range r.Snapshots() {
		t, err := treeOf(r, s)
		if err != nil {
			return err
		}
		visit := func(name string, e *repo.Entry) error {
			against := e.Name
			if whole {
				against = name
			}
			if ok, _ := path.Match(pattern, against); !ok {
				return nil
			}
			count++
			if p.json {
				return values.add(foundValue{s.ID, entryOf(name, e)})
			}
			p.print("%s  %s  %10s  %s", s.ID, timeText(clock(e.Mtime)), sizeText(e), printable(name))
			return nil
		}
		for _, root := range t.roots {
			if err := t.search(ctx, root.Dir, "/", 0, visit, &count, barren, whole); err != nil {
				return err
			}
		}
	}
	if p.json {
		return values.end("")
	}
	p.say("found %s in %s", counted(count, "entry"), counted(len(r.Snapshots()), "snapshot"))
	return nil
}

// search walks below a directory and remembers in barren where nothing was counted, unless the path matters.
func (t *tree) search(ctx context.Context, d repo.Dir, at string, depth int, visit func(string, *repo.Entry) error, count *int, barren dirSet, whole bool) error {
	if !whole && barren.has(d) {
		return nil
	}
	before := *count
	var below []*repo.Entry
	only := func(name string, e *repo.Entry) error {
		if e.Type == repo.TypeDirectory {
			below = append(below, e)
		}
		return visit(name, e)
	}
	if err := t.walk(ctx, d, at, depth, only, func(string, *repo.Entry) bool { return false }); err != nil {
		return err
	}
	for _, e := range below {
		if err := t.search(ctx, e.Dir, path.Join(at, e.Name), depth+1, visit, count, barren, whole); err != nil {
			return err
		}
	}
	if *count == before {
		barren.add(d)
	}
	return nil
}
