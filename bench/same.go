package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// sameTree has rsync compare contents and metadata; the root's own time is left out. Kopia's restores give
// some directories the time of the restore, so its directory times are not compared.
func sameTree(ctx context.Context, a, b string, looseDirs bool) error {
	argv := []string{"rsync", "-aHAXn", "--checksum", "--itemize-changes", "--delete"}
	if looseDirs {
		argv = append(argv, "--omit-dir-times")
	}
	_, difference, err := command{argv: append(argv, a+"/", b+"/")}.measure(ctx)
	if err == nil && difference != "" && difference != ".d..t...... ./\n" {
		err = fmt.Errorf("what was restored differs:\n%s", last(difference, 10))
	}
	return err
}

func sameFile(a, b string) error {
	x, err := digest(a)
	if err != nil {
		return err
	}
	y, err := digest(b)
	if err == nil && x != y {
		err = fmt.Errorf("%s was restored differently", a)
	}
	return err
}

func digest(name string) (sum [32]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

// sameSparse compares sizes, holes and what lies between them: tar reads only what a sparse file has.
func sameSparse(ctx context.Context, a, b string) error {
	sums := [2]string{}
	for i, name := range []string{a, b} {
		c := shell("/", `tar cS --format=gnu --mtime=@0 --owner=0 --group=0 --mode=600 --transform='s,.*,f,' -P -f - "$1" | sha256sum`, name)
		_, out, err := c.measure(ctx)
		if err != nil {
			return err
		}
		sums[i] = out
	}
	if sums[0] != sums[1] {
		return errors.New("the sparse file was restored differently")
	}
	return nil
}
