package browse

import (
	"archive/tar"
	"context"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/generalbots/backupd/repo"
)

// paxRoom is how many bytes the records of a PAX header may have: package tar, like
// other readers, takes no more than a mebibyte, and a writer that was asked for
// more writes nothing any more.
const paxRoom = 1<<20 - 4096

// Tar writes what is at a path, with everything below, as a tar archive (PAX, with
// extended attributes, ACLs and hard links). Names have no slash in front. Sparse files
// are written out, holes as zeros. What tar can not express is left out, and told
// to problem, as is what one part hides of another. ErrNoPath comes before
// anything is written; after any other error the archive has no end. p may be nil.
func (t *Tree) Tar(ctx context.Context, w io.Writer, at string, p *ArchiveProgress, problem func(at, text string)) error {
	if p == nil {
		p = new(ArchiveProgress)
	}
	a := &tarball{t: t, w: tar.NewWriter(w), ctx: ctx, p: p, links: newLinks(), problem: problem}
	all := &whole{Tree: t, visit: a.add, problem: problem}
	if err := all.from(ctx, Clean(at)); err != nil {
		return err
	}
	return a.w.Close()
}

// tarball writes entries as tar.
type tarball struct {
	t       *Tree
	w       *tar.Writer
	ctx     context.Context
	p       *ArchiveProgress
	links   links
	problem func(at, text string)
}

func (a *tarball) add(name string, part int, e *repo.Entry) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(name, "/"), Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), Uname: e.User, Gname: e.Group,
		ModTime: Clock(e.Mtime), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	switch e.Type {
	case repo.TypeRegular:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case repo.TypeDirectory:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case repo.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	case repo.TypeFIFO:
		h.Typeflag = tar.TypeFifo
	case repo.TypeCharDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.Major), int64(e.Minor)
	case repo.TypeBlockDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(e.Major), int64(e.Minor)
	default:
		a.problem(name, "a "+TypeName(e.Type)+" can not be written to tar")
		return nil
	}
	if first, ok := a.links.earlier(part, e); ok {
		// The attributes of a link are those of what it is one to.
		h.Typeflag, h.Linkname, h.Size, h.Devmajor, h.Devminor = tar.TypeLink, first, 0, 0, 0
	} else {
		a.attributes(h, name, e)
	}
	ok, err := a.header(h, name)
	if !ok || h.Typeflag == tar.TypeLink {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		if err := (content{a.w, a.p}).fill(a.ctx, a.t, e); err != nil {
			return err
		}
	}
	a.links.add(part, e, h.Name)
	return nil
}

// attributes adds the extended attributes, ACLs as text too.
func (a *tarball) attributes(h *tar.Header, name string, e *repo.Entry) {
	for _, x := range e.Xattrs {
		if strings.Contains(x.Name, "=") {
			a.problem(name, "extended attribute "+x.Name+" can not be written to tar")
			continue
		}
		h.PAXRecords["SCHILY.xattr."+x.Name] = string(x.Value)
		if text := aclText(x.Value); text != "" && paxACL[x.Name] != "" {
			h.PAXRecords[paxACL[x.Name]] = text
		}
	}
}

// header writes a header. One that tar can not express is a problem of this entry
// alone, which then is not written.
func (a *tarball) header(h *tar.Header, name string) (written bool, err error) {
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
		clear(h.PAXRecords)
	}
	for _, s := range []string{h.Name, h.Linkname, h.Uname, h.Gname} {
		if !utf8.ValidString(s) {
			h.PAXRecords["hdrcharset"] = "BINARY"
		}
	}
	err = a.w.WriteHeader(h)
	if err != nil && a.w.Flush() == nil {
		// The archive is as it was before: nothing of the header was written.
		a.problem(name, err.Error())
		return false, nil
	}
	return err == nil, err
}
