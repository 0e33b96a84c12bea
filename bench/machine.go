package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// describe says on what the figures were taken.
func describe(work string) string {
	field := func(file, key string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			return "?"
		}
		for _, line := range strings.Split(string(text), "\n") {
			name, value, _ := strings.Cut(line, ":")
			if strings.TrimSpace(name) == key {
				return strings.TrimSpace(value)
			}
		}
		return "?"
	}
	var uts syscall.Utsname
	kernel := "?"
	if syscall.Uname(&uts) == nil {
		b := make([]byte, 0, len(uts.Release))
		for _, c := range uts.Release {
			if c == 0 {
				break
			}
			b = append(b, byte(c))
		}
		kernel = string(b)
	}
	return fmt.Sprintf("%s, %d cores, %s memory, Linux %s, data and repositories on %s, %s. tar %s, zstd %s.",
		field("/proc/cpuinfo", "model name"), runtime.NumCPU(), field("/proc/meminfo", "MemTotal"), kernel, describeFileSystem(work),
		time.Now().UTC().Format("2006-01-02"), firstVersion("tar", "--version"), firstVersion("zstd", "--version"))
}

// firstVersion finds the first word of a version line that starts with a digit.
func firstVersion(name string, arg string) string {
	out, err := exec.Command(name, arg).CombinedOutput()
	if err != nil {
		return "missing"
	}
	for _, word := range strings.Fields(string(out)) {
		word = strings.TrimLeft(word, "v")
		if word != "" && word[0] >= '0' && word[0] <= '9' {
			return strings.Trim(word, ",")
		}
	}
	return "?"
}
