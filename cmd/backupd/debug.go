package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

// debugCommand is the group of commands that look inside a repository.
func (p *program) debugCommand() *cobra.Command {
	c := group("debug", "Look inside a repository; nothing is ever changed", `These commands show the objects of a repository as they are. They take the same flags as those below "repo".
Ids may be cut short where that is unique.`)
	p.access.flags(c.PersistentFlags())
	c.AddCommand(
		p.debugConfigCommand(), p.debugKeyCommand(), p.debugSnapshotCommand(), p.debugTreeCommand(), p.debugIndexCommand(),
		p.debugPackCommand(), p.debugBlockCommand(), p.debugChunkCommand(), p.debugAuditCommand(),
	)
	return c
}

// look makes a command that opens the repository and looks at something.
func (p *program) look(use, short, example string, args cobra.PositionalArgs, do func(ctx context.Context, r *repo.Repo, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: "  backupd debug " + example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error { return do(cmd.Context(), r, args) })
		},
	}
}

// profileValue is how one kind of content is cut.
type profileValue struct {
	Name          string `json:"name"`
	ID            uint8  `json:"id"`
	Algorithm     uint16 `json:"algorithm"`
	Min           int    `json:"min_bytes"`
	Avg           int    `json:"avg_bytes"`
	Max           int    `json:"max_bytes"`
	Normalisation uint8  `json:"normalisation"`
}

func (p *program) debugConfigCommand() *cobra.Command {
	return p.look("config", "Show what was fixed when the repository was made", "config", cobra.NoArgs, func(_ context.Context, r *repo.Repo, _ []string) error {
		c := r.Config()
		v := struct {
			Repository string         `json:"repository_id"`
			Format     int            `json:"format_version"`
			CreatedAt  time.Time      `json:"created_at"`
			PackSize   int            `json:"pack_bytes"`
			KeyEpoch   uint32         `json:"key_epoch"`
			Profiles   []profileValue `json:"profiles"`
		}{r.ID().String(), repo.FormatVersion, c.CreatedAt, c.PackSize, c.KeyEpoch, nil}
		for _, q := range c.Profiles {
			v.Profiles = append(v.Profiles, profileValue{q.Name, q.ID, q.Algorithm, q.Chunker.Min, q.Chunker.Avg, q.Chunker.Max, q.Chunker.Normalisation})
		}
		if p.json {
			return p.value(v)
		}
		p.print("repository %s\nformat     %d\ncreated    %s\npack size  %s\nkey epoch  %d", v.Repository, v.Format, timeText(v.CreatedAt), bytesText(int64(v.PackSize)), v.KeyEpoch)
		for _, q := range v.Profiles {
			p.print("profile    %s: id %d, chunker %d, chunks of %s to %s, %s on average, normalisation %d", q.Name, q.ID, q.Algorithm,
				bytesText(int64(q.Min)), bytesText(int64(q.Max)), bytesText(int64(q.Avg)), q.Normalisation)
		}
		return nil
	})
}

// slotCostValue is a key slot with what a guess at it costs.
type slotCostValue struct {
	slotValue
	Time      uint32 `json:"argon2_passes"`
	MemoryKiB uint32 `json:"argon2_memory_kib"`
	Threads   uint8  `json:"argon2_threads"`
}

func (p *program) debugKeyCommand() *cobra.Command {
	return p.look("key", "Show the key slots with their parameters", "key", cobra.NoArgs, func(ctx context.Context, r *repo.Repo, _ []string) error {
		slots, err := r.Keys(ctx)
		if err != nil {
			return err
		}
		values := make([]slotCostValue, len(slots))
		for i, s := range slots {
			values[i] = slotCostValue{p.slotOf(r, s), s.Params.Time, s.Params.MemoryKiB, s.Params.Threads}
		}
		if p.json {
			return p.value(values)
		}
		p.table("SLOT KIND >EPOCH >PASSES >MEMORY >THREADS LABEL", func(row func(...any)) {
			for _, v := range values {
				kind := strings.ReplaceAll(v.Kind, "_", " ")
				if v.Time == 0 { // only a passphrase is made hard to guess
					row(v.Slot, kind, v.Epoch, "-", "-", "-", printable(v.Label))
					continue
				}
				row(v.Slot, kind, v.Epoch, v.Time, bytesText(int64(v.MemoryKiB)<<10), v.Threads, printable(v.Label))
			}
		})
		return nil
	})
}

func (p *program) debugSnapshotCommand() *cobra.Command {
	return p.look("snapshot ID|latest", "Show the whole manifest of a snapshot, as JSON", "snapshot latest", cobra.ExactArgs(1), func(ctx context.Context, r *repo.Repo, args []string) error {
		s, err := named(r.Resolve(args[0]))
		if err != nil {
			return err
		}
		m, err := r.Manifest(ctx, s)
		if err != nil {
			return err
		}
		return p.manifest(m)
	})
}

func (p *program) debugIndexCommand() *cobra.Command {
	return p.look("index", "Compare the index of this host with the packs of the repository", "index", cobra.NoArgs, func(_ context.Context, r *repo.Repo, _ []string) error {
		s, err := named(r.IndexState())
		if err != nil {
			return err
		}
		if p.json {
			return p.value(s)
		}
		p.print("directory  %s\nknown      %s\nmissing    %s, which the next backup reads into it\nstale      %s that the repository no longer has",
			printable(s.Dir), counted(s.Known, "data pack"), counted(s.Missing, "data pack"), counted(s.Stale, "pack"))
		if s.Problem != "" {
			p.print("problem    %s", printable(s.Problem))
		}
		return nil
	})
}

// treeValue is what a snapshot keeps of one entry, ids included.
type treeValue struct {
	entryValue
	Root    string      `json:"root,omitempty"`  // of a directory's pages, or of a long chunk list
	Level   uint8       `json:"level,omitempty"` // of the root
	Entries uint64      `json:"entries,omitempty"`
	Files   uint64      `json:"files,omitempty"`
	Bytes   int64       `json:"bytes"`
	Chunks  []chunkSpot `json:"chunks,omitempty"`
	Below   []treeValue `json:"below,omitempty"`
}

// chunkSpot is a chunk in the content of a file.
type chunkSpot struct {
	Offset int64  `json:"offset"` // in the content, holes left out
	Length uint32 `json:"length"`
	ID     string `json:"id"`
}

func (p *program) debugTreeCommand() *cobra.Command {
	return p.look("tree ID|latest [PATH]", "Show the pages and chunks of a directory or file of a snapshot", "tree latest /etc/fstab", cobra.RangeArgs(1, 2), func(ctx context.Context, r *repo.Repo, args []string) error {
		t, err := openTree(r, args[0])
		if err != nil {
			return err
		}
		found, err := lookUp(ctx, t, pathArgument(args))
		if err != nil {
			return err
		}
		at := browse.Clean(pathArgument(args))
		values := []treeValue{}
		for _, e := range found {
			v, err := describe(ctx, r.Reader(), t, at, e.Entry)
			if err != nil {
				return err
			}
			values = append(values, v)
		}
		if p.json {
			return p.value(values)
		}
		for _, v := range values {
			p.printTree(&v, "")
		}
		return nil
	})
}

// describe tells of an entry, its chunks, and the entries in it.
func describe(ctx context.Context, rd *repo.Reader, t *browse.Tree, at string, e *repo.Entry) (treeValue, error) {
	v := entryIDs(at, e)
	if e.Type == repo.TypeRegular {
		cr := rd.Content(&e.Content)
		var off int64
		for {
			ref, ok, err := cr.Next(ctx)
			if err != nil || !ok {
				return v, err
			}
			v.Chunks = append(v.Chunks, chunkSpot{off, ref.Len, ref.ID.String()})
			off += int64(ref.Len)
		}
	}
	if e.Type != repo.TypeDirectory {
		return v, nil
	}
	err := t.Walk(ctx, e.Dir, at, func(name string, c *repo.Entry) error {
		v.Below = append(v.Below, entryIDs(name, c))
		return nil
	}, func(string, *repo.Entry) bool { return false })
	return v, err
}

func entryIDs(at string, e *repo.Entry) treeValue {
	v := treeValue{entryValue: entryOf(at, e)}
	switch {
	case e.Type == repo.TypeDirectory && e.Dir.Entries > 0:
		v.Root, v.Level, v.Entries, v.Files, v.Bytes = e.Dir.Root.String(), e.Dir.Level, e.Dir.Entries, e.Dir.Files, e.Dir.Bytes
	case e.Type == repo.TypeRegular:
		v.Bytes = e.Content.Bytes
		if e.Content.Level > 0 {
			v.Root, v.Level = e.Content.Root.String(), e.Content.Level
		}
	}
	return v
}

func (p *program) printTree(v *treeValue, indent string) {
	line := fmt.Sprintf("%s%s %s  %s", indent, v.Type, printable(v.Path), bytesText(v.Bytes))
	if v.Type == "directory" {
		line += fmt.Sprintf(", %s, %s below", counted(v.Entries, "entry"), counted(v.Files, "file"))
	}
	if v.Root != "" {
		line += fmt.Sprintf(", root %s at level %d", v.Root, v.Level)
	}
	p.print("%s", line)
	for _, c := range v.Chunks {
		p.print("%s  %12d %8d  %s", indent, c.Offset, c.Length, c.ID)
	}
	for i := range v.Below {
		p.printTree(&v.Below[i], indent+"  ")
	}
}
