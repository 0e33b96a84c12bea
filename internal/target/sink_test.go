package target_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/generalbots/backupd/internal/target"
	"github.com/generalbots/backupd/internal/target/targettest"
)

func TestDirectorySink_Conforms(t *testing.T) {
	targettest.Sinks(t, func(t *testing.T) targettest.SinkPlace {
		dir := t.TempDir()
		return targettest.SinkPlace{
			Open: func(t *testing.T) target.Sink {
				d, err := target.OpenDirectory(dir, target.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { d.Close() })
				return target.NewDirectorySink(d)
			},
			Read: func(t *testing.T) map[string][]byte {
				got := make(map[string][]byte)
				err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
					if err != nil || e.IsDir() {
						return err
					}
					data, err := os.ReadFile(path)
					got[strings.TrimPrefix(path, dir+"/")] = data
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return got
			},
		}
	})
}
