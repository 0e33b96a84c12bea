package target

import (
	"errors"
	"io/fs"
	"strings"
)

// Errors a caller may act on. ErrExists and ErrSame come bare; the others and everything the system refuses come inside
// a *fs.PathError whose path is relative to the root, so errors.Is finds them as it finds syscall.ENOSPC.
var (
	// ErrExists: something stands under the name and was left as it is.
	ErrExists = errors.New("target: exists already")
	// ErrSame: what stands under the name is of the same type, size and time, and was left as it is.
	ErrSame = errors.New("target: exists already and is the same")
	// ErrNotDirectory: a folder was asked for where a link, a file or anything else stands.
	ErrNotDirectory = errors.New("target: not a directory")
	// ErrNotEmpty: a directory that is not empty stands where a file was asked for.
	ErrNotEmpty = errors.New("target: a directory that is not empty is in the way")
	// ErrName: not one component of a path: empty, ".", "..", with a slash or NUL, or longer than 255 bytes.
	ErrName = errors.New("target: not a valid name")
	// ErrDepth: deeper than MaxDepth folders.
	ErrDepth = errors.New("target: too deep")
	// ErrMoved: somebody moved or replaced, during the restore, what the restore had made or opened.
	ErrMoved = errors.New("target: moved or replaced by somebody else")
	// ErrRange: a write outside of the size the file was created with.
	ErrRange = errors.New("target: write outside of the file's size")
	// ErrMeta: metadata that no file system could have given, such as a link without a target or with a NUL in it.
	ErrMeta = errors.New("target: impossible metadata")
	// ErrClosed: the file, folder or directory was finished, aborted or closed before.
	ErrClosed = errors.New("target: used after it was closed")
)

const (
	// MaxDepth is the greatest number of folders below one another, which is as deep as a snapshot goes.
	MaxDepth = 16384
	// maxName is the longest name of one component in bytes, that of every Linux file system.
	maxName = 255
	// maxTarget is the longest target of a symbolic link in bytes: PATH_MAX without its NUL.
	maxTarget = 4095
	// maxXattr is the longest value of an extended attribute in bytes, the kernel's own limit.
	maxXattr = 64 << 10
	// maxAttempts bounds the loops that start again because somebody else changed the same name at the same time.
	maxAttempts = 16
)

// validName reports whether name is one component that stays where it is put.
func validName(name string) bool {
	return name != "" && len(name) <= maxName && name != "." && name != ".." &&
		strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// fail is the error of an operation on name in f.
func (f *Folder) fail(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: f.pathOf(name), Err: err}
}
