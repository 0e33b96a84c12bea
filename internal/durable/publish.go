package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
)

// errState is the answer to a call that the life of a Temp does not allow.
var errState = fmt.Errorf("temporary file already published or discarded: %w", fs.ErrClosed)

// ErrTooLarge is a write beyond the size a Temp was created for.
var ErrTooLarge = errors.New("write beyond the reserved size")

// Temp is a file that is being written and that nobody can see under its final
// name yet. Exactly one of Publish and Discard ends it; Discard may always be
// deferred.
type Temp struct {
	fs   FS
	name string
	file File
	size int64        // reserved
	high atomic.Int64 // end of the highest byte written

	passing atomic.Bool // see Passing

	mu    sync.Mutex // guards state; held over the whole of Publish and Discard
	state tempState
}

type tempState uint8

const (
	tempOpen      tempState = iota // being written
	tempClosed                     // descriptor closed, temporary name may be left
	tempPublished                  // has its final name
	tempGone                       // temporary name removed
)

// CreateTemp begins a file of at most size bytes under the temporary name tmp,
// with its space reserved where the file system can: ENOSPC comes here. Where it
// can not, zeros are written. On an error nothing is left.
func CreateTemp(f FS, tmp string, size int64) (*Temp, error) {
	if size < 0 {
		return nil, &fs.PathError{Op: "create", Path: tmp, Err: syscall.EINVAL}
	}
	file, err := f.Create(tmp)
	if err != nil {
		return nil, err
	}
	t := &Temp{fs: f, name: tmp, file: file, size: size}
	if err := reserve(file, size); err != nil {
		t.Discard()
		return nil, err
	}
	return t, nil
}

// zeros is what reserve writes, in one piece at a time.
var zeros [256 << 10]byte

func reserve(file File, size int64) error {
	if size == 0 {
		return nil
	}
	err := file.Fallocate(size)
	if err == nil || !Unsupported(err) {
		return err
	}
	for off := int64(0); off < size; {
		n, err := file.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// WriteAt writes p at off. It may be called concurrently for disjoint ranges,
// until Publish or Discard. ErrTooLarge when p ends beyond the reserved size.
func (t *Temp) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > t.size || int64(len(p)) > t.size-off {
		return 0, ErrTooLarge
	}
	n, err := t.file.WriteAt(p, off)
	if end := off + int64(n); n > 0 {
		for {
			high := t.high.Load()
			if end <= high || t.high.CompareAndSwap(high, end) {
				break
			}
		}
	}
	return n, err
}

// Passing tells that nobody will read soon what is written: when it is durable
// its pages are given back, so that they push nothing else out of the page cache.
func (t *Temp) Passing() { t.passing.Store(true) }

// Publish makes the file, cut to the highest byte written, durable under name
// and returns when it is: steps P3 to P7 of the package comment. All writes have
// returned before.
//
// fs.ErrExist when the name is taken: nothing is replaced. After any error the
// file is absent or whole under its name, and it is not known which; after an
// error of fsync it is absent and the temporary file is removed, never retried.
func (t *Temp) Publish(name string) error {
	return t.publish(name, renameNoReplace)
}

// Replace is Publish, but takes the name from the file that has it: after a
// crash the name leads to the whole old file or to the whole new one.
func (t *Temp) Replace(name string) error {
	return t.publish(name, FS.Rename)
}

func (t *Temp) publish(name string, rename func(f FS, oldname, newname string) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != tempOpen {
		return errState
	}
	var err error
	if high := t.high.Load(); high < t.size {
		err = t.file.Truncate(high)
	}
	if err == nil {
		err = t.file.Sync()
	}
	if err == nil && t.passing.Load() {
		GiveBack(t.file)
	}
	cerr := t.file.Close()
	t.state = tempClosed
	if err == nil {
		err = cerr
	}
	if err != nil {
		t.remove()
		return err
	}
	if err := rename(t.fs, t.name, name); err != nil {
		return err
	}
	t.state = tempPublished
	dir, _ := split(name)
	return syncDir(t.fs, dir)
}

// Discard ends a file that is not to be published and removes its temporary
// name. It does nothing after Publish succeeded, and nothing the second time.
// It never touches the final name.
func (t *Temp) Discard() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case tempOpen:
		t.file.Close()
		t.state = tempClosed
		return t.remove()
	case tempClosed:
		return t.remove()
	}
	return nil
}

func (t *Temp) remove() error {
	err := t.fs.Unlink(t.name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		t.state = tempGone
		return nil
	}
	return err
}

// renameNoReplace renames without replacing also where the file system has no
// RENAME_NOREPLACE: a second link and no first one. Between the two calls the
// file has both names, and if the second fails it keeps them; the temporary one
// is swept with the others.
//
// BUG: where there are no hard links either, the name is looked up and then
// taken, and a foreign writer who ignores the lock could come between.
func renameNoReplace(f FS, oldname, newname string) error {
	err := f.RenameNoReplace(oldname, newname)
	if err == nil || !Unsupported(err) {
		return err
	}
	err = f.Link(oldname, newname)
	if err == nil {
		f.Unlink(oldname)
		return nil
	}
	if !Unsupported(err) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EMLINK) {
		return err
	}
	_, err = f.Stat(newname)
	if err == nil {
		return &fs.PathError{Op: "rename", Path: newname, Err: syscall.EEXIST}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.Rename(oldname, newname)
}

// syncDir is SyncDir, content with file systems that have no such thing: there
// the server makes names durable as it sees fit.
func syncDir(f FS, dir string) error {
	err := f.SyncDir(dir)
	if err != nil && Unsupported(err) {
		return nil
	}
	return err
}
