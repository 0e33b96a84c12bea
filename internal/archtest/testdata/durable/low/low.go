// Package low is hasty.
package low

import "os"

func publish(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename("a", "b")
}
