package browse

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/generalbots/backupd/repo"
)

// Tar writes what is at a path, with everything below, as a tar archive (PAX, with
// extended attributes and hard links). Names have no slash in front. What tar can
// not express is left out, and told to problem. repo.ErrNotFound before anything
// is written.
func (t *Tree) Tar(ctx context.Context, w io.Writer, at string, problem func(at, text string)) error {
	a := &tarball{t: t, w: tar.NewWriter(w), ctx: ctx, first: map[inode]string{}, problem: problem}
	if err := t.each(ctx, at, a.add); err != nil {
		return err
	}
	return a.w.Close()
}

// Zip writes the regular files, directories and symbolic links at a path and below
// as a zip archive. Everything else is left out, and told to problem.
// repo.ErrNotFound before anything is written.
func (t *Tree) Zip(ctx context.Context, w io.Writer, at string, problem func(at, text string)) error {
	z := &zipball{t: t, w: zip.NewWriter(w), ctx: ctx, problem: problem}
	if err := t.each(ctx, at, z.add); err != nil {
		return err
	}
	return z.w.Close()
}

// each visits what is at a path and everything below it, in all parts.
func (t *Tree) each(ctx context.Context, at string, visit func(at string, e *repo.Entry) error) error {
	at = Clean(at)
	found, err := t.Find(ctx, at)
	if err != nil {
		return err
	}
	for _, f := range found {
		if at != "/" {
			if err := visit(at, f.Entry); err != nil {
				return err
			}
		}
		if f.Type == repo.TypeDirectory {
			if err := t.Walk(ctx, f.Dir, at, visit, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// tarball writes entries as tar.
type tarball struct {
	t       *Tree
	w       *tar.Writer
	ctx     context.Context
	first   map[inode]string // the name of hard-linked files that are in the archive
	problem func(at, text string)
}

type inode struct{ device, inode uint64 }

func (a *tarball) add(name string, e *repo.Entry) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(name, "/"), Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), Uname: e.User, Gname: e.Group,
		ModTime: Clock(e.Mtime), Format: tar.FormatPAX, PAXRecords: map[string]string{},
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
		a.problem(name, "a "+TypeName(e.Type)+" can not be written to tar")
		return nil
	}
	return a.header(h, name)
}

func (a *tarball) file(h *tar.Header, name string, e *repo.Entry) error {
	h.Typeflag, h.Size = tar.TypeReg, e.Size
	if e.Nlink > 1 {
		key := inode{e.Device, e.Inode}
		if other, ok := a.first[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
			return a.header(h, name)
		}
		a.first[key] = h.Name
	}
	if err := a.header(h, name); err != nil {
		return err
	}
	return a.t.Content(a.ctx, a.w, e)
}

// header writes a header. One that tar can not express is a problem of this entry
// alone.
func (a *tarball) header(h *tar.Header, name string) error {
	err := a.w.WriteHeader(h)
	if errors.Is(err, tar.ErrHeader) {
		a.problem(name, err.Error())
		if h.Size > 0 {
			return err // its content has nowhere to go
		}
		return nil
	}
	return err
}

// zipball writes entries as zip.
type zipball struct {
	t       *Tree
	w       *zip.Writer
	ctx     context.Context
	problem func(at, text string)
}

func (z *zipball) add(name string, e *repo.Entry) error {
	h := &zip.FileHeader{Name: strings.TrimPrefix(name, "/"), Method: zip.Deflate, Modified: Clock(e.Mtime)}
	switch e.Type {
	case repo.TypeRegular:
		h.SetMode(FileMode(e))
	case repo.TypeDirectory:
		h.Name, h.Method = h.Name+"/", zip.Store
		h.SetMode(FileMode(e))
	case repo.TypeSymlink:
		h.SetMode(FileMode(e))
	default:
		z.problem(name, "a "+TypeName(e.Type)+" can not be written to zip")
		return nil
	}
	w, err := z.w.CreateHeader(h)
	if err != nil {
		return err
	}
	switch e.Type {
	case repo.TypeRegular:
		return z.t.Content(z.ctx, w, e)
	case repo.TypeSymlink:
		_, err = io.WriteString(w, e.Target)
	}
	return err
}
