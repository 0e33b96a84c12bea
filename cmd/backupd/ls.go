package main

import (
	"context"
	"fmt"
	"time"

	"github.com/generalbots/backupd/internal/browse"
	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) lsCommand() *cobra.Command {
	var long bool
	var depth int
	c := &cobra.Command{
		Use:   "ls ID|latest [PATH]",
		Short: "List what a snapshot holds",
		Long: `Lists the paths in a snapshot, or those at and below PATH, one a line. A name that holds control characters, bytes
that are not UTF-8 or backslashes is written as in a Go string; --json has it raw.`,
		Example: `  backupd repo ls latest
  backupd repo ls latest /etc --depth 1 --long`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: p.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				return p.ls(cmd.Context(), r, args[0], pathArgument(args), long, depth)
			})
		},
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "with mode, owner, size in bytes and time")
	c.Flags().IntVar(&depth, "depth", 0, "go only `LEVELS` below PATH; 0 is all")
	return c
}

func (p *program) ls(ctx context.Context, r *repo.Repo, query, path string, long bool, depth int) error {
	t, err := openTree(r, query)
	if err != nil {
		return err
	}
	found, err := lookUp(ctx, t, path)
	if err != nil {
		return err
	}
	at := browse.Clean(path)
	values := p.list("")
	show := func(name string, e *repo.Entry) error {
		switch {
		case p.json:
			return values.add(entryOf(name, e))
		case long:
			p.print("%s", longLine(name, e))
		default:
			p.print("%s", printable(name))
		}
		return nil
	}
	base := levels(at)
	for _, e := range found {
		if at != "/" {
			if err := show(at, e.Entry); err != nil {
				return err
			}
		}
		if e.Type != repo.TypeDirectory {
			continue
		}
		enter := func(name string, _ *repo.Entry) bool { return depth == 0 || levels(name)-base < depth }
		if err := t.Walk(ctx, e.Dir, at, show, enter); err != nil {
			return err
		}
	}
	if p.json {
		return values.end("")
	}
	return nil
}

// levels counts the components of a clean path.
func levels(name string) (n int) {
	if name == "/" {
		return 0
	}
	for _, c := range name {
		if c == '/' {
			n++
		}
	}
	return n
}

// entryValue is what --json prints of an entry.
type entryValue struct {
	pathValue
	Type   string   `json:"type"`
	Mode   string   `json:"mode"` // octal
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	User   string   `json:"user,omitempty"`
	Group  string   `json:"group,omitempty"`
	Size   int64    `json:"size"`
	Mtime  string   `json:"mtime"`
	Ctime  string   `json:"ctime"`
	Inode  uint64   `json:"inode"`
	Device uint64   `json:"device"`
	Nlink  uint32   `json:"nlink"`
	Sparse bool     `json:"sparse,omitempty"`
	Target string   `json:"target,omitempty"`
	RawTo  string   `json:"target_base64,omitempty"` // when Target had to replace bytes
	Major  *uint32  `json:"major,omitempty"`
	Minor  *uint32  `json:"minor,omitempty"`
	Xattrs []string `json:"xattrs,omitempty"` // names
}

func entryOf(name string, e *repo.Entry) entryValue {
	v := entryValue{
		pathValue: pathOf(name), Type: browse.TypeName(e.Type), Mode: fmt.Sprintf("%04o", e.Mode), UID: e.UID, GID: e.GID, User: e.User, Group: e.Group,
		Size: e.Size, Mtime: browse.Clock(e.Mtime).Format(time.RFC3339Nano), Ctime: browse.Clock(e.Ctime).Format(time.RFC3339Nano),
		Inode: e.Inode, Device: e.Device, Nlink: e.Nlink, Sparse: e.Sparse,
	}
	to := pathOf(e.Target)
	v.Target, v.RawTo = to.Path, to.Raw
	if e.Type == repo.TypeCharDevice || e.Type == repo.TypeBlockDevice {
		major, minor := e.Major, e.Minor // e is used again
		v.Major, v.Minor = &major, &minor
	}
	for _, x := range e.Xattrs {
		v.Xattrs = append(v.Xattrs, x.Name)
	}
	return v
}

// modeText is the mode of an entry as ls writes it.
func modeText(e *repo.Entry) string {
	b := []byte("?rwxrwxrwx")
	switch e.Type {
	case repo.TypeRegular:
		b[0] = '-'
	case repo.TypeDirectory:
		b[0] = 'd'
	case repo.TypeSymlink:
		b[0] = 'l'
	case repo.TypeFIFO:
		b[0] = 'p'
	case repo.TypeSocket:
		b[0] = 's'
	case repo.TypeCharDevice:
		b[0] = 'c'
	case repo.TypeBlockDevice:
		b[0] = 'b'
	}
	for i := range 9 {
		if e.Mode&(0o400>>i) == 0 {
			b[i+1] = '-'
		}
	}
	for _, special := range []struct {
		bit    uint32
		at     int
		letter byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if e.Mode&special.bit == 0 {
			continue
		}
		if b[special.at] == '-' {
			special.letter -= 'a' - 'A' // nobody may execute it
		}
		b[special.at] = special.letter
	}
	return string(b)
}

// sizeText is the size of an entry for people; only files have one.
func sizeText(e *repo.Entry) string {
	if e.Type != repo.TypeRegular {
		return "-"
	}
	return bytesText(e.Size)
}

func longLine(name string, e *repo.Entry) string {
	size := fmt.Sprint(e.Size)
	if e.Type == repo.TypeCharDevice || e.Type == repo.TypeBlockDevice {
		size = fmt.Sprintf("%d,%d", e.Major, e.Minor)
	}
	line := fmt.Sprintf("%s %s %10s %s %s", modeText(e), owner(e), size, timeText(browse.Clock(e.Mtime)), printable(name))
	if e.Type == repo.TypeSymlink {
		line += " -> " + printable(e.Target)
	}
	return line
}

func owner(e *repo.Entry) string {
	user, group := e.User, e.Group
	if user == "" {
		user = fmt.Sprint(e.UID)
	}
	if group == "" {
		group = fmt.Sprint(e.GID)
	}
	return fmt.Sprintf("%-8s %-8s", printable(user), printable(group))
}
