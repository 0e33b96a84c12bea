package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync/atomic"

	"github.com/generalbots/backupd/repo"
	"github.com/spf13/cobra"
)

func (p *program) dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dump ID|latest [PATH]",
		Short: "Write a snapshot, or PATH of it, to standard output as tar",
		Long: `Writes a tar archive (PAX, with extended attributes and hard links) to standard output. Names have no slash in front.
Sockets, which tar does not know, are left out and listed, and the exit code is 3. --json has no meaning here: the archive is the data.`,
		Example:           "  backupd repo dump latest /etc | tar x -C /tmp/back",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: p.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.printed = true
			return p.withRepo(cmd.Context(), func(r *repo.Repo) error {
				t, err := openTree(r, args[0])
				if err != nil {
					return err
				}
				return p.dump(cmd.Context(), t, pathArgument(args))
			})
		},
	}
}

// archive writes entries of a snapshot as tar.
type archive struct {
	p      *program
	t      *tree
	w      *tar.Writer
	ctx    context.Context
	first  map[inode]string // the name of hard-linked files that are in the archive
	files  atomic.Int64     // written; read by the meter
	bytes  atomic.Int64     // of their content
	failed bool
}

// inode names a file that has several names. One that was changed while a backup came by its names, or that several parts
// have, may stand under one number with several contents.
type inode struct{ device, inode, content uint64 }

func inodeOf(e *repo.Entry) inode {
	h := fnv.New64a()
	fmt.Fprint(h, e.Size, e.Mtime, e.Content.Chunks)
	h.Write(e.Content.Root[:])
	for i := range e.Content.Inline {
		h.Write(e.Content.Inline[i].ID[:])
	}
	return inode{e.Device, e.Inode, h.Sum64()}
}

func (p *program) dump(ctx context.Context, t *tree, path string) error {
	found, err := t.find(ctx, path)
	if err != nil {
		return err
	}
	at := clean(path)
	a := &archive{p: p, t: t, w: tar.NewWriter(p.stdout), ctx: ctx, first: map[inode]string{}}
	var total int64
	for _, e := range found {
		total += e.Dir.Bytes + e.Content.Bytes
	}
	stop := p.meter(2, func() reading {
		return reading{what: "dumping", count: a.files.Load(), bytes: a.bytes.Load(), total: total}
	})
	defer stop()
	for _, e := range found {
		if at != "/" {
			if err := a.add(at, e); err != nil {
				return err
			}
		}
		if e.Type == repo.TypeDirectory {
			if err := t.walk(ctx, e.Dir, at, 0, a.add, nil); err != nil {
				return err
			}
		}
	}
	if err := a.w.Close(); err != nil {
		return err
	}
	if a.failed {
		return errProblems
	}
	return nil
}

func (a *archive) add(name string, e *repo.Entry) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(name, "/"), Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), Uname: e.User, Gname: e.Group,
		ModTime: clock(e.Mtime), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	for _, x := range e.Xattrs {
		if strings.Contains(x.Name, "=") {
			a.problem(name, "extended attribute "+x.Name+" can not be written to tar")
			continue
		}
		h.PAXRecords["SCHILY.xattr."+x.Name] = string(x.Value)
	}
	switch e.Type {
	case repo.TypeRegular:
		return a.file(h, name, e)
	case repo.TypeDirectory:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case repo.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	case repo.TypeFIFO:
		h.Typeflag = tar.TypeFifo
	case repo.TypeCharDevice, repo.TypeBlockDevice:
		h.Typeflag = tar.TypeChar
		if e.Type == repo.TypeBlockDevice {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(e.Major), int64(e.Minor)
	default:
		a.problem(name, "a "+typeText(e.Type)+" can not be written to tar")
		return nil
	}
	_, err := a.header(h, name)
	return err
}

func (a *archive) file(h *tar.Header, name string, e *repo.Entry) error {
	h.Typeflag, h.Size = tar.TypeReg, e.Size
	if e.Nlink > 1 {
		if other, ok := a.first[inodeOf(e)]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
			_, err := a.header(h, name)
			return err
		}
	}
	written, err := a.header(h, name)
	if err != nil || !written {
		return err
	}
	if e.Nlink > 1 {
		a.first[inodeOf(e)] = h.Name
	}
	a.files.Add(1)
	return a.t.content(a.ctx, a, e)
}

// Write takes the content of a file, which tar wants whole.
func (a *archive) Write(b []byte) (int, error) {
	n, err := a.w.Write(b)
	a.bytes.Add(int64(n))
	return n, err
}

// paxRoom is how many bytes the records of a PAX header may have: package tar, like other readers, takes no more than a
// mebibyte, and a writer that was asked for more writes nothing any more.
const paxRoom = 1<<20 - 4096

// header writes a header. One that tar can not express is a problem of this entry alone, which then is not written.
func (a *archive) header(h *tar.Header, name string) (written bool, err error) {
	size := len(h.Name) + len(h.Linkname)
	if size > paxRoom {
		a.problem(name, "its path is too long for tar")
		return false, nil
	}
	for k, v := range h.PAXRecords {
		size += len(k) + len(v) + len("1234567 =\n")
	}
	if size > paxRoom {
		a.problem(name, "its extended attributes are too long for tar, and left out")
		h.PAXRecords = nil
	}
	err = a.w.WriteHeader(h)
	if errors.Is(err, tar.ErrHeader) {
		a.problem(name, err.Error())
		return false, nil
	}
	return err == nil, err
}

func (a *archive) problem(name, text string) {
	a.failed = true
	a.p.say("%s: %s", printable(name), printable(text))
}
