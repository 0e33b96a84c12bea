package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"syscall"
)

// MaxFile is the greatest size of a configuration in bytes.
const MaxFile = 256 << 10

// Load reads and judges a configuration. What is wrong with it comes as [Errors],
// all at once; a file that can not be read as another error.
func Load(path string) (*Config, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe does not make it wait
	if err != nil {
		return nil, fmt.Errorf("the configuration can not be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the configuration %s is no regular file", path)
	}
	if info.Mode().Perm()&0o002 != 0 {
		// It names programs that are run, and who may call.
		return nil, fmt.Errorf("the configuration %s can be changed by anyone, who could run programs as the daemon: chmod o-w, and look at what it says now", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Parse judges the text of a configuration; file is what errors call it.
func Parse(file string, text []byte) (*Config, error) {
	c, d, err := decode(file, text)
	if err != nil {
		return nil, err
	}
	v := &validator{c: c, refused: d.refused}
	v.all()
	if err := append(d.errors, v.errors...).errorOrNil(); err != nil {
		return nil, err
	}
	return c, nil
}

// decode fills a Config as far as it goes; what could not be read is in the decoder's errors.
func decode(file string, text []byte) (*Config, *decoder, error) {
	if len(text) > MaxFile {
		return nil, nil, Errors{{File: file, Text: fmt.Sprintf("the file has more than %d bytes", MaxFile)}}
	}
	root, err := parse(file, text)
	if err != nil {
		var list Errors
		if errors.As(err, &list) {
			return nil, nil, list.errorOrNil()
		}
		return nil, nil, err
	}
	c := &Config{}
	d := &decoder{file: file, line: map[string]int{}}
	d.value(root, "", reflect.ValueOf(c).Elem())
	c.file, c.line = file, d.line
	return c, d, nil
}

// at is the line of a key, or of the nearest thing around it that stands in the file.
func (c *Config) at(key string) int {
	for key != "" {
		if line, ok := c.line[key]; ok {
			return line
		}
		i := len(key) - 1
		for i > 0 && key[i] != '.' && key[i] != '[' {
			i--
		}
		key = key[:i]
	}
	return 0
}
