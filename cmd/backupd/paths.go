package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// absolute makes the PATH of a command line absolute, so that it leads where the system would go. A link in last place
// is itself, unless the PATH says that what it leads to is meant, as "link/", "link/." and, in a shell that went through
// a link, "." do: a backup of one link would look like a backup of everything. And what ".." is above is where the link
// before it leads, not what stands before it in the text.
func absolute(name string) (string, error) {
	full := name
	if !filepath.IsAbs(name) {
		wd, err := os.Getwd()
		if err != nil {
			return "", err
		}
		full = wd + "/" + name
	}
	parts := strings.Split(full, "/")
	up := len(parts)
	for up > 0 && parts[up-1] != ".." {
		up--
	}
	if up > 0 {
		above, err := upward(strings.Join(parts[:up], "/"))
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		full = above + "/" + strings.Join(parts[up:], "/")
	}
	clean := filepath.Clean(full)
	if last := parts[len(parts)-1]; last != "" && last != "." {
		return clean, nil
	}
	// What is not there is named by the scan.
	if st, err := os.Lstat(clean); err != nil || st.Mode()&os.ModeSymlink == 0 {
		return clean, nil
	}
	real, err := filepath.EvalSymlinks(clean)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return real, nil
}

// upward resolves a path that ends in "..". Where its text says the same, the text stays.
func upward(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	want, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	text := filepath.Clean(path)
	if got, err := os.Stat(text); err == nil && os.SameFile(got, want) {
		return text, nil
	}
	return real, nil
}
