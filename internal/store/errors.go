package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/generalbots/backupd/internal/durable"
)

// wrap turns an error of the shim into one of the store and names the object.
// What callers act on is matched by errors.Is; the rest is text, so that nobody
// comes to depend on what lies below.
func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	if kind == nil {
		return fmt.Errorf("%s %s: %v", op, name, bare(err))
	}
	return fmt.Errorf("%s %s: %w", op, name, kind)
}

// wrapWrite is wrap for calls that write: a refusal means that the store is
// read-only to us.
func wrapWrite(op, name string, err error) error {
	if refused(err) {
		return fmt.Errorf("%s %s: %w (%v)", op, name, ErrReadOnly, bare(err))
	}
	return wrap(op, name, err)
}

func refused(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

func kindOf(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotExist
	case errors.Is(err, fs.ErrExist):
		return ErrExist
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrNoSpace
	case errors.Is(err, fs.ErrClosed):
		return ErrClosed
	case errors.Is(err, fs.ErrPermission):
		return fs.ErrPermission
	case errors.Is(err, durable.ErrTooLarge):
		return ErrTooLarge
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	return nil
}

// bare drops the path of the shim, which says less than the object's name.
func bare(err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		return fmt.Errorf("%s: %v", perr.Op, perr.Err)
	}
	return err
}
