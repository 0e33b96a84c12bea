package auth

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxSecret bounds a file that holds a secret, in bytes.
const maxSecret = 4 << 10

// readSecret returns the secret in a file without the line end that editors and
// echo leave behind. A file that everybody may read is refused. The group may:
// credentials of systemd and files of root for the daemon's group look so.
func readSecret(path, what string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %s is not a regular file", what, path)
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("%s: everybody may open %s: chmod 600 it, and make a new secret if it was so for long", what, path)
	case info.Size() > maxSecret:
		return nil, fmt.Errorf("%s: %s is longer than a secret may be", what, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s: %s is longer than a secret may be", what, path)
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	return bytes.TrimSuffix(data, []byte("\r")), nil
}

// secretOf takes a secret from the one of the two places where it is.
func secretOf(given []byte, path, what string) ([]byte, error) {
	if path == "" {
		return given, nil
	}
	if len(given) > 0 {
		return nil, fmt.Errorf("%s is given twice, by value and as file", what)
	}
	return readSecret(path, what)
}
