package durable

import (
	"errors"
	"io/fs"
)

// tmpSuffix makes the temporary name of WriteFile and ReplaceFile.
const tmpSuffix = ".tmp"

// WriteFile publishes data under name, durable when it returns. fs.ErrExist when
// the name is taken. The temporary name is name.tmp beside it; what a crash left
// there is removed first, so only one caller at a time may write a name.
func WriteFile(f FS, name string, data []byte) error {
	return writeFile(f, name, data, (*Temp).Publish)
}

// ReplaceFile is WriteFile for a name that may be taken: after a crash it leads
// to all of the old data or to all of the new.
func ReplaceFile(f FS, name string, data []byte) error {
	return writeFile(f, name, data, (*Temp).Replace)
}

func writeFile(f FS, name string, data []byte, publish func(*Temp, string) error) error {
	if err := f.Unlink(name + tmpSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t, err := CreateTemp(f, name+tmpSuffix, int64(len(data)))
	if err != nil {
		return err
	}
	defer t.Discard()
	if len(data) > 0 {
		if _, err := t.WriteAt(data, 0); err != nil {
			return err
		}
	}
	return publish(t, name)
}

// ReadFile returns the contents of name, which must not be longer than limit
// bytes.
func ReadFile(f FS, name string, limit int64) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("file is longer than it may be")}
	}
	data := make([]byte, size)
	if size == 0 {
		return data, nil
	}
	n, err := file.ReadAt(data, 0)
	if n < len(data) {
		return nil, err
	}
	return data, nil
}

// Remove unlinks names and returns when that is durable. Missing names and names
// in missing directories are not an error; their directories are synced all the
// same, because a process that was killed may have unlinked and not synced.
func Remove(f FS, names ...string) error {
	var dirs []string
	seen := make(map[string]bool)
	var failed error
	for _, name := range names {
		err := f.Unlink(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
			break
		}
		if dir, _ := split(name); !seen[dir] {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		err := syncDir(f, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && failed == nil {
			failed = err
		}
	}
	return failed
}

// MakeDirs makes the directories of names that are missing, in the order given,
// parents first, and returns when they are durable. Existing ones are synced
// too: a process that was killed may have made them.
func MakeDirs(f FS, names ...string) error {
	parents := make(map[string]bool)
	var order []string
	for _, name := range names {
		if err := f.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if parent, _ := split(name); !parents[parent] {
			parents[parent] = true
			order = append(order, parent)
		}
	}
	return SyncDirs(f, append(order, names...)...)
}

// SyncDirs makes the entries of directories durable.
func SyncDirs(f FS, names ...string) error {
	done := make(map[string]bool, len(names))
	for _, name := range names {
		if done[name] {
			continue
		}
		done[name] = true
		if err := syncDir(f, name); err != nil {
			return err
		}
	}
	return nil
}
