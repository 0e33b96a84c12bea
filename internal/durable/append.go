package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrAppenderFailed is every answer of an [Appender] after an fsync failed, or
// after a torn write could not be taken back: what is on the disk is not known,
// and only opening the file again and looking at its end tells.
var ErrAppenderFailed = errors.New("an earlier write or sync of this file failed: open it again")

// Appender adds to the end of one file, each piece durable when Append returns.
// It is the one exception to publishing by rename, for logs.
//
// A crash during Append leaves the file as it was, or longer by a part of the
// piece: some blocks of it may read as zeros, and its end may be missing. What was
// appended before is not touched. Whoever opens the file again finds the torn
// piece at its end and cuts it off with Cut before it appends.
//
// One goroutine at a time uses an Appender, and one Appender at a time a file: the
// caller holds a lock.
type Appender struct {
	file   File
	size   int64 // bytes that count
	failed bool
}

// OpenAppend opens name for appending. A missing file is made, empty and durable
// under its name.
func OpenAppend(f FS, name string) (*Appender, error) {
	file, err := f.OpenWrite(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := WriteFile(f, name, nil); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		file, err = f.OpenWrite(name)
	}
	if err != nil {
		return nil, err
	}
	size, err := file.Size()
	if err == nil {
		// A process that was killed may have written and not synced: what is read
		// from here on must not vanish later.
		err = file.Sync()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Appender{file: file, size: size}, nil
}

// Size is the length of the file in bytes.
func (a *Appender) Size() int64 { return a.size }

// ReadAt reads what was appended.
func (a *Appender) ReadAt(p []byte, off int64) (int, error) {
	if off >= a.size {
		return 0, io.EOF
	}
	return a.file.ReadAt(p, off)
}

// Append adds p and returns when it is durable. After an error nothing of p
// counts; when it could be taken back, as on a full disk, the next Append may
// succeed, else it returns ErrAppenderFailed.
func (a *Appender) Append(p []byte) error {
	if a.failed {
		return ErrAppenderFailed
	}
	if _, err := a.file.WriteAt(p, a.size); err != nil {
		if cut := a.Cut(a.size); cut != nil {
			return fmt.Errorf("%w; taking the torn piece back: %v", err, cut)
		}
		return err
	}
	if err := a.file.Sync(); err != nil {
		a.failed = true
		return err
	}
	a.size += int64(len(p))
	return nil
}

// Cut shortens the file to size bytes and returns when that is durable.
func (a *Appender) Cut(size int64) error {
	if a.failed {
		return ErrAppenderFailed
	}
	err := a.file.Truncate(size)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		a.failed = true
		return err
	}
	a.size = size
	return nil
}

// Close closes the file; everything in it is durable already.
func (a *Appender) Close() error { return a.file.Close() }
