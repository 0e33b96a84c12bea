package job

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

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
		from := &lateSource{open: func(ctx context.Context) (source.Source, func() error, error) { return j.openSource(ctx, s) }}
		closers = append(closers, func() { _ = from.Close() }) // an error of the run is told already
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

// openSource runs the command that comes before a source and opens it. The
// function it returns ends it and runs the command that comes after, which runs
// also when the part fails.
func (j *Jobs) openSource(ctx context.Context, s Source) (src source.Source, end func() error, err error) {
	after := func() error {
		if len(s.After) == 0 {
			return nil
		}
		ctx, cancel := hurried(ctx)
		defer cancel()
		if err := runHook(ctx, s.After, s.HookTimeout); err != nil {
			return fmt.Errorf("after it: %w", err)
		}
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, after())
		}
	}()
	if len(s.Before) > 0 {
		if err := runHook(ctx, s.Before, s.HookTimeout); err != nil {
			return nil, nil, fmt.Errorf("before it: %w", err)
		}
	}
	switch s.Kind {
	case "files":
		src, err := source.NewFiles(source.FilesOptions{Paths: s.Paths, Exclude: s.Exclude, ExcludeCaches: s.ExcludeCaches, OneFileSystem: s.OneFileSystem})
		return src, after, err
	case "sqlite":
		src, err := source.NewSQLite(source.SQLiteOptions{Paths: s.Paths, Staging: j.o.Staging})
		if err != nil {
			return nil, nil, err
		}
		return src, func() error { return errors.Join(src.Close(), after()) }, nil
	}
	return nil, nil, fmt.Errorf("sources of kind %s are not supported by this version", s.Kind)
}

// runHook is source.RunHook from a thread like any other: a program inherits the
// priority of the thread that starts it, and what quiets a database must not
// give way to anybody.
func runHook(ctx context.Context, argv []string, timeout time.Duration) error {
	done := make(chan error)
	go func() { done <- source.RunHook(ctx, argv, timeout) }()
	return <-done
}

// hurry is how long the command after a source has when the run is being
// stopped. With it a stop stays within the ten seconds it may take.
const hurry = 5 * time.Second

// hurried is a context that ends some time after ctx does.
func hurried(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(hurry):
			cancel()
		case <-late.Done():
		}
	})
	return late, func() { stop(); cancel() }
}

// lateSource opens what it stands for when it is scanned, so that each part is
// captured when its turn comes, and what can not be opened is an error of its
// scan. It is scanned once.
type lateSource struct {
	open func(context.Context) (source.Source, func() error, error)
	source.Source
	end func() error
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

// Close ends the source, and runs the command that comes after it. The run
// notes its error.
func (s *lateSource) Close() error {
	if s.end == nil {
		return nil
	}
	end := s.end
	s.end = nil
	return end()
}

// Remarks are those of the source, once it was opened.
func (s *lateSource) Remarks() []source.Remark {
	if r, ok := s.Source.(source.Remarker); ok {
		return r.Remarks()
	}
	return nil
}
