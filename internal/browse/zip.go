package browse

import (
	"archive/zip"
	"context"
	"io"
	"math"
	"strings"
	"time"

	"github.com/generalbots/backupd/repo"
)

// Zip writes what is at a path, with everything below, as a zip archive: regular
// files, with hard links as copies and holes as zeros, directories and symbolic
// links; zip64 where it has to be. Names have no slash in front. One that is not
// UTF-8 is written as the bytes it is. Times are whole seconds from 1970 to 2106.
//
// All else is left out and told to problem, as is what one part hides of another.
// So is a name with a backslash, which zip does not have in names: some readers
// take it for a slash, and would go where such a name leads. ErrNoPath
// comes before anything is written; after any other error the archive has no end.
// p may be nil.
func (t *Tree) Zip(ctx context.Context, w io.Writer, at string, p *ArchiveProgress, problem func(at, text string)) error {
	if p == nil {
		p = new(ArchiveProgress)
	}
	z := &zipball{t: t, w: zip.NewWriter(w), ctx: ctx, p: p, problem: problem}
	all := &whole{Tree: t, visit: z.add, problem: problem}
	if err := all.from(ctx, Clean(at)); err != nil {
		return err
	}
	return z.w.Close()
}

// zipball writes entries as zip.
type zipball struct {
	t       *Tree
	w       *zip.Writer
	ctx     context.Context
	p       *ArchiveProgress
	problem func(at, text string)
}

func (z *zipball) add(name string, _ int, e *repo.Entry) error {
	h := &zip.FileHeader{Name: strings.TrimPrefix(name, "/"), Method: zip.Deflate, Modified: zipTime(e.Mtime)}
	h.SetMode(FileMode(e))
	switch e.Type {
	case repo.TypeRegular, repo.TypeSymlink:
	case repo.TypeDirectory:
		h.Name, h.Method = h.Name+"/", zip.Store
	default:
		z.problem(name, "a "+TypeName(e.Type)+" can not be written to zip")
		return nil
	}
	switch {
	case len(h.Name) > math.MaxUint16:
		z.problem(name, "the path is too long for zip")
		return nil
	case strings.Contains(h.Name, `\`):
		z.problem(name, "a name with a backslash can not be written to zip")
		return nil
	}
	w, err := z.w.CreateHeader(h)
	if err != nil {
		return err
	}
	switch e.Type {
	case repo.TypeRegular:
		return content{w, z.p}.fill(z.ctx, z.t, e)
	case repo.TypeSymlink:
		_, err = io.WriteString(w, e.Target)
	}
	return err
}

// zipTime is a time as zip has it: seconds in 32 bits.
func zipTime(t repo.Time) time.Time {
	return time.Unix(min(max(t.Sec, 0), math.MaxUint32), 0).UTC()
}
