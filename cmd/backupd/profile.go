//go:build profile

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
)

// profile writes what the process did to the directory BACKUPD_PROFILE: cpu.pprof, heap.pprof, mutex.pprof and block.pprof,
// and peak.pprof and peak.txt of when it took most memory;
// with BACKUPD_PROFILE_TRACE set a trace.out instead, which costs more. Only binaries of make profile have it: the one
// that is installed writes to no file that an environment names.
func profile() (stop func(), err error) {
	dir := os.Getenv("BACKUPD_PROFILE")
	if dir == "" {
		return func() {}, nil
	}
	if os.Getenv("BACKUPD_PROFILE_TRACE") != "" {
		f, err := os.Create(filepath.Join(dir, "trace.out"))
		if err != nil {
			return nil, err
		}
		return func() { trace.Stop(); report(f.Close()) }, trace.Start(f)
	}
	f, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return nil, err
	}
	runtime.MemProfileRate = 64 << 10
	runtime.SetMutexProfileFraction(5)
	runtime.SetBlockProfileRate(10_000)
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	stopPeak := watchPeak(dir)
	return func() {
		pprof.StopCPUProfile()
		err := errors.Join(stopPeak(), f.Close())
		for _, name := range []string{"heap", "mutex", "block"} {
			err = errors.Join(err, write(name, filepath.Join(dir, name+".pprof")))
		}
		report(err)
	}, nil
}

func write(profile, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(profile).WriteTo(f, 0), f.Close())
}

func report(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
	}
}
