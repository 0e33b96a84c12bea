package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// makeTrees leaves two versions of a source tree in the directories a and b and says what they are:
// KERNEL_A and KERNEL_B when set, else two versions of Debian's linux-source, else synthetic ones.
func makeTrees(ctx context.Context, o options, a, b string) (string, error) {
	note := filepath.Join(o.work, "trees")
	if text, err := os.ReadFile(note); err == nil {
		return string(text), nil // of a run before, with -keep
	}
	what, err := findTrees(ctx, o, a, b)
	if err != nil {
		return "", err
	}
	return what, os.WriteFile(note, []byte(what), 0o600)
}

func findTrees(ctx context.Context, o options, a, b string) (string, error) {
	if from := os.Getenv("KERNEL_A"); from != "" {
		if err := copyTree(ctx, from, a); err != nil {
			return "", err
		}
		next := os.Getenv("KERNEL_B")
		if next == "" {
			return filepath.Base(from) + ", and the same with one file in eight edited", edit(ctx, a, b)
		}
		return filepath.Base(from) + " and " + filepath.Base(next), copyTree(ctx, next, b)
	}
	if o.tree != "synthetic" {
		what, err := debianTrees(ctx, o.cache, a, b)
		if err == nil || o.tree == "debian" || ctx.Err() != nil {
			return what, err
		}
		fmt.Fprintf(os.Stderr, "no linux-source by apt (%v): a synthetic tree instead\n", err)
	}
	for version, dir := range []string{a, b} {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
		if err := (synthetic{o.files, version}).write(dir); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("synthetic source tree of %d files, and the next version of it", o.files), nil
}

func copyTree(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return command{argv: []string{"cp", "-a", "--reflink=never", "--", from, to}}.run(ctx)
}

// debianTrees unpacks the oldest and the newest linux-source that apt offers, the way to two real
// versions with changes of a few months between them. Nothing is installed.
func debianTrees(ctx context.Context, cache, a, b string) (string, error) {
	name, versions, err := offered(ctx)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	oldest, newest := versions[len(versions)-1], versions[0]
	if err := unpack(ctx, cache, name, oldest, a); err != nil {
		return "", err
	}
	if oldest == newest {
		return fmt.Sprintf("%s %s, and the same with one file in eight edited", name, newest), edit(ctx, a, b)
	}
	return fmt.Sprintf("%s %s and %s", name, oldest, newest), unpack(ctx, cache, name, newest, b)
}

// offered is the linux-source package to use and its versions, newest first: 6.1 when it is there, as
// the targets were set on it.
func offered(ctx context.Context) (name string, versions []string, err error) {
	names, err := exec.CommandContext(ctx, "apt-cache", "search", "--names-only", `^linux-source-[0-9.]+$`).Output()
	if err != nil {
		return "", nil, err
	}
	for _, line := range strings.Split(string(names), "\n") {
		if field, _, _ := strings.Cut(line, " "); name == "" || field == "linux-source-6.1" {
			name = field
		}
	}
	if name == "" {
		return "", nil, errors.New("apt knows no linux-source")
	}
	rows, err := exec.CommandContext(ctx, "apt-cache", "madison", name).Output()
	if err != nil {
		return "", nil, err
	}
	for _, line := range strings.Split(string(rows), "\n") {
		if fields := strings.Split(line, "|"); len(fields) == 3 && strings.Contains(fields[2], "Packages") {
			versions = append(versions, strings.TrimSpace(fields[1]))
		}
	}
	if len(versions) == 0 {
		return "", nil, fmt.Errorf("apt offers no version of %s", name)
	}
	return name, versions, nil
}

func unpack(ctx context.Context, cache, name, version, to string) error {
	deb := filepath.Join(cache, fmt.Sprintf("%s_%s_all.deb", name, version))
	if _, err := os.Stat(deb); err != nil {
		c := command{argv: []string{"apt-get", "-q", "download", name + "=" + version}, dir: cache}
		if err := c.run(ctx); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return shell(to, `dpkg-deb --fsys-tarfile "$1" | tar xO "./usr/src/$2.tar.xz" | tar xJ --strip-components=1`, deb, name).run(ctx)
}

// edit makes b a copy of a in which one file in eight differs: a line repeated here and there.
func edit(ctx context.Context, a, b string) error {
	if err := copyTree(ctx, a, b); err != nil {
		return err
	}
	return filepath.WalkDir(b, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		h := fnv.New32a()
		rel, _ := filepath.Rel(b, name)
		h.Write([]byte(rel))
		pick := h.Sum32()
		if pick%8 != 0 {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		edited := make([]byte, 0, len(text)+1024)
		for i, line := range lines {
			edited = append(edited, line...)
			if uint32(i)%97 == pick/8%97 {
				edited = append(edited, fmt.Sprintf("/* %08x */ ", pick^uint32(i))...)
				edited = append(edited, lines[i/2]...)
			}
		}
		return os.WriteFile(name, edited, 0o644)
	})
}
