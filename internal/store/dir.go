package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/generalbots/backupd/internal/durable"
)

// Dir is a [Store] in a directory: an object is a file of its name. It works as
// far as the directory's permissions go: Open, List and shared locks need no
// right to write.
type Dir struct {
	fs durable.FS
}

var _ Store = (*Dir)(nil)

// NewDir returns the store in an open directory tree, which is laid out already
// unless Init is called. The store takes the tree over: Close closes it.
func NewDir(f durable.FS) *Dir { return &Dir{fs: f} }

// OpenDir returns the store in the existing directory path, which may be
// read-only. ErrNotExist when there is no such directory. What is in it is not
// looked at.
func OpenDir(path string) (*Dir, error) {
	f, err := durable.OS(path)
	if err != nil {
		return nil, wrap("open repository", path, err)
	}
	return NewDir(f), nil
}

// MakeDir makes the directory path, mode 0700, where it is missing, and lays out
// a store in it. It is idempotent; existing objects stay.
func MakeDir(ctx context.Context, path string) (*Dir, error) {
	if err := durable.MakeRoot(path); err != nil {
		return nil, wrapWrite("make repository", path, err)
	}
	d, err := OpenDir(path)
	if err != nil {
		return nil, err
	}
	if err := d.Init(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close releases the directory. Writers, Objects and locks are closed before.
func (d *Dir) Close() error { return wrap("close", "repository", d.fs.Close()) }

// Init makes the directories of the layout that are missing; they are durable
// when it returns.
func (d *Dir) Init(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return wrapWrite("lay out", "repository", durable.MakeDirs(d.fs, layout()...))
}

// Sweep puts a store in order after whatever ended the last writer. The caller
// holds the lock that all writers hold, and has no Writer open.
//
// It removes temporary files; it makes directories of the layout that are
// missing, because copying tools drop empty ones; and it syncs all directories.
// The last matters when a process was killed between renaming an object and
// syncing its directory: the object is seen, might be relied upon, and would be
// lost with a later power cut.
func (d *Dir) Sweep(ctx context.Context) error {
	if err := d.Init(ctx); err != nil {
		return err
	}
	list, err := d.fs.ReadDir(tmpDir)
	if err != nil {
		return wrap("list", tmpDir, err)
	}
	for _, info := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if info.Mode.IsDir() {
			continue
		}
		name := tmpDir + "/" + info.Name
		if err := d.fs.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return wrapWrite("remove", name, err)
		}
	}
	return nil
}

// Create makes a temporary file tmp/<random>, so that no two attempts at an
// object ever meet.
func (d *Dir) Create(ctx context.Context, name string, size int64) (Writer, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if parent := path.Dir(name); parent != "." {
		if _, err := d.fs.Stat(parent); err != nil {
			return nil, wrap("find the directory of", name, err)
		}
	}
	var r [16]byte
	rand.Read(r[:])
	tmp, err := durable.CreateTemp(d.fs, tmpDir+"/"+hex.EncodeToString(r[:]), size)
	if err != nil {
		return nil, wrapWrite("create", name, err)
	}
	return &dirWriter{tmp: tmp, name: name}, nil
}

type dirWriter struct {
	tmp  *durable.Temp
	name string
}

func (w *dirWriter) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.tmp.WriteAt(p, off)
	if err != nil {
		return n, wrapWrite("write", w.name, err)
	}
	return n, nil
}

// Commit does not look at ctx between the steps: a commit that was begun is
// brought to its end, because half of one helps nobody.
func (w *dirWriter) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return wrapWrite("commit", w.name, w.tmp.Publish(w.name))
}

func (w *dirWriter) Abort() error {
	return wrapWrite("abort", w.name, w.tmp.Discard())
}

// Open opens the file and learns its length.
func (d *Dir) Open(ctx context.Context, name string) (Object, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := d.fs.Open(name)
	if err != nil {
		return nil, wrap("open", name, err)
	}
	size, err := f.Size()
	if err != nil {
		f.Close()
		return nil, wrap("open", name, err)
	}
	return &dirObject{f: f, name: name, size: size}, nil
}

// Passing tells of a Writer or an Object that nobody will read the same bytes
// again soon, so that a page cache is left to those who use it: a Writer's are
// given back when they are durable, an Object's when it is closed. Stores that
// know no such thing ignore it. It is called before Commit and Close.
func Passing(x any) {
	if p, ok := x.(interface{ passing() }); ok {
		p.passing()
	}
}

func (w *dirWriter) passing() { w.tmp.Passing() }

type dirObject struct {
	f    durable.File
	name string
	size int64
	once atomic.Bool // what is read is not read again
}

// WillRead implements [Ahead].
func (o *dirObject) WillRead(off, n int64) { durable.WillRead(o.f, off, n) }

func (o *dirObject) passing() { o.once.Store(true) }

func (o *dirObject) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = wrap("read", o.name, err)
	}
	return n, err
}

func (o *dirObject) Size() int64 { return o.size }

func (o *dirObject) Close() error {
	if o.once.Load() {
		durable.GiveBack(o.f)
	}
	return wrap("close", o.name, o.f.Close())
}

// List reads the directories one after the other.
func (d *Dir) List(ctx context.Context, prefix string) ([]Info, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	list, err := d.list(ctx, prefix, nil)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	// A network file system may return a name twice.
	return slices.CompactFunc(list, func(a, b Info) bool { return a.Name == b.Name }), nil
}

func (d *Dir) list(ctx context.Context, dir string, list []Info) ([]Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := d.fs.ReadDir(dir)
	if err != nil {
		return nil, wrap("list", "/"+dir, err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if CheckName(name) != nil {
			continue
		}
		switch {
		case e.Mode.IsDir():
			if list, err = d.list(ctx, name, list); err != nil {
				return nil, err
			}
		case e.Mode.IsRegular():
			list = append(list, Info{Name: name, Size: e.Size})
		}
	}
	return list, nil
}

// Remove unlinks the files and syncs each of their directories once.
func (d *Dir) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := durable.Remove(d.fs, names...); err != nil {
		what := names[0]
		if len(names) > 1 {
			what = fmt.Sprintf("%d objects, the first of them %s", len(names), what)
		}
		return wrapWrite("remove", what, err)
	}
	return nil
}

// Space is that of the file system.
func (d *Dir) Space(ctx context.Context) (Space, error) {
	if err := ctx.Err(); err != nil {
		return Space{}, err
	}
	s, err := d.fs.Statfs()
	if err != nil {
		return Space{}, wrap("examine", "repository", err)
	}
	return Space{Free: s.Free, Total: s.Total}, nil
}

// Lock locks the file locks/<name> with flock.
func (d *Dir) Lock(ctx context.Context, name string, mode LockMode) (io.Closer, error) {
	if err := checkLock(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	how := durable.Shared
	if mode == LockExclusive {
		how = durable.Exclusive
	}
	owner := strconv.Itoa(os.Getpid())
	file := lockDir + "/" + name
	lock, err := d.fs.Lock(file, how, owner)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.fs.Mkdir(lockDir); err == nil || errors.Is(err, fs.ErrExist) {
			lock, err = d.fs.Lock(file, how, owner)
		}
	}
	if err == nil {
		return lock, nil
	}
	var held *durable.HeldError
	if errors.As(err, &held) {
		return nil, &LockedError{Name: name, Owner: held.Owner}
	}
	if mode == LockShared && unlockable(err) {
		return noLock{}, nil
	}
	return nil, wrapWrite("lock", name, err)
}

// unlockable reports that there is no lock to be had here: a store that can not
// be written, or a file system without locks. Nobody can then hold one
// exclusively from here either, and a reader in need must be able to read.
func unlockable(err error) bool {
	return refused(err) || durable.Unsupported(err) || errors.Is(err, syscall.ENOLCK) ||
		errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

type noLock struct{}

func (noLock) Close() error { return nil }
