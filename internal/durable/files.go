package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// A temporary name of WriteFile and ReplaceFile is that of the file, "-",
// tmpRandom bytes in hexadecimal and tmpSuffix.
const (
	tmpRandom = 8
	tmpSuffix = ".tmp"
)

// sweptAttempts is how often a file is written again whose temporary name
// somebody swept away.
const sweptAttempts = 3

// WriteFile publishes data under name, durable when it returns. fs.ErrExist when
// the name is taken. The temporary name beside it is drawn at random, so any
// number of callers may write one name; SweepFiles removes what a crash left.
func WriteFile(f FS, name string, data []byte) error {
	return writeFile(f, name, data, (*Temp).Publish)
}

// ReplaceFile is WriteFile for a name that may be taken: after a crash it leads
// to all of the old data or to all of the new.
func ReplaceFile(f FS, name string, data []byte) error {
	return writeFile(f, name, data, (*Temp).Replace)
}

func writeFile(f FS, name string, data []byte, publish func(*Temp, string) error) error {
	for attempt := 1; ; attempt++ {
		swept, err := writeOnce(f, name, data, publish)
		if !swept || attempt == sweptAttempts {
			return err
		}
	}
}

// writeOnce tells whether it failed because the temporary file was gone.
func writeOnce(f FS, name string, data []byte, publish func(*Temp, string) error) (swept bool, err error) {
	var r [tmpRandom]byte
	rand.Read(r[:])
	t, err := CreateTemp(f, name+"-"+hex.EncodeToString(r[:])+tmpSuffix, int64(len(data)))
	if err != nil {
		return false, err
	}
	defer t.Discard()
	if len(data) > 0 {
		if _, err := t.WriteAt(data, 0); err != nil {
			return false, err
		}
	}
	err = publish(t, name)
	return errors.Is(err, fs.ErrNotExist), err
}

// SweepFiles removes the temporary files that crashes of WriteFile and
// ReplaceFile of these names left. One that is being written is written again.
func SweepFiles(f FS, names ...string) error {
	for _, name := range names {
		dir, base := split(name)
		list, err := f.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, info := range list {
			r, ok := strings.CutPrefix(info.Name, base+"-")
			r, isTmp := strings.CutSuffix(r, tmpSuffix)
			if _, err := hex.DecodeString(r); !ok || !isTmp || err != nil || len(r) != 2*tmpRandom || !info.Mode.IsRegular() {
				continue
			}
			if err := f.Unlink(path.Join(dir, info.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
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
