package job

import (
	"context"
	"errors"
	"iter"

	"github.com/generalbots/backupd/internal/backup"
	"github.com/generalbots/backupd/internal/source"
	"github.com/generalbots/backupd/repo"
)

// openSources makes the parts of a backup. A source that can not be had becomes
// a part that fails alone. The run closes each when its part is done; the
// function that is returned closes those it did not come to.
func (j *Jobs) openSources(ctx context.Context, chosen []Source) (parts []backup.Part, closeAll func()) {
	var closers []func()
	for _, s := range chosen {
		part := repo.Part{
			Source: s.Name, Kind: s.Kind, Profile: profile(s), Exclude: s.Exclude,
			ExcludeCaches: s.ExcludeCaches, OneFileSystem: s.OneFileSystem,
		}
		for _, p := range s.Paths {
			part.Paths = append(part.Paths, []byte(p))
		}
		from := &lateSource{open: func(ctx context.Context) (source.Source, func(), error) { return j.openSource(ctx, s) }}
		closers = append(closers, func() { from.Close() })
		parts = append(parts, backup.Part{Part: part, From: from})
	}
	return parts, func() {
		for _, c := range closers {
			c()
		}
	}
}

func profile(s Source) string {
	switch {
	case s.Profile != "":
		return s.Profile
	case s.Kind == "files" || s.Kind == "s3":
		return "files"
	}
	return "database"
}

// openSource runs the hook that comes before a source and opens it. The
// function it returns ends it and runs the hook that comes after.
func (j *Jobs) openSource(ctx context.Context, s Source) (source.Source, func(), error) {
	after := func() {
		if len(s.After) == 0 {
			return
		}
		if err := source.RunHook(context.WithoutCancel(ctx), s.After); err != nil {
			j.log.Error("the command after a source ended badly", "source", s.Name, "error", err)
		}
	}
	if len(s.Before) > 0 {
		if err := source.RunHook(ctx, s.Before); err != nil {
			after()
			return nil, nil, err
		}
	}
	switch s.Kind {
	case "files":
		src, err := source.NewFiles(source.FilesOptions{Paths: s.Paths, Exclude: s.Exclude, ExcludeCaches: s.ExcludeCaches, OneFileSystem: s.OneFileSystem})
		if err != nil {
			after()
			return nil, nil, err
		}
		return src, after, nil
	case "sqlite":
		src, err := source.NewSQLite(source.SQLiteOptions{Paths: s.Paths, Staging: j.o.Staging})
		if err != nil {
			after()
			return nil, nil, err
		}
		return src, func() { src.Close(); after() }, nil
	}
	after()
	return nil, nil, errors.New("sources of kind " + s.Kind + " are not supported by this version")
}

// lateSource opens what it stands for when it is scanned, so that each part is
// captured when its turn comes, and what can not be opened is an error of its
// scan. It is scanned once.
type lateSource struct {
	open func(context.Context) (source.Source, func(), error)
	source.Source
	end func()
}

// Scan opens the source and scans it.
func (s *lateSource) Scan(ctx context.Context) iter.Seq2[source.Entry, error] {
	return func(yield func(source.Entry, error) bool) {
		src, end, err := s.open(ctx)
		if err != nil {
			yield(source.Entry{}, err)
			return
		}
		s.Source, s.end = src, end
		for e, err := range src.Scan(ctx) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// Close ends the source, and runs the command that comes after it.
func (s *lateSource) Close() error {
	if s.end != nil {
		s.end()
		s.end = nil
	}
	return nil
}

// Remarks are those of the source, once it was opened.
func (s *lateSource) Remarks() []source.Remark {
	if r, ok := s.Source.(source.Remarker); ok {
		return r.Remarks()
	}
	return nil
}
