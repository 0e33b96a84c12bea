package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// setting is what a row is measured under besides its data: where, on which cores, with what in the page cache. The
// zero name is the setting of the table: a RAM disk, everything cached, all cores.
type setting struct {
	name string
	what string // for people
	work string
	pin  string // the cores of every command as taskset takes them; "" for all
	max  int    // GOMAXPROCS of every command when pinned
	cold bool   // the page cache is dropped before each command
	// sync is of a disk: what was written before lies there when a command begins, a floor ends when what it wrote does, as a
	// backup does, and what is done with is put aside.
	sync bool
	free int64 // so much free memory is touched before each command, see touchFree
}

// row is the key of a row in the results.
func (s setting) row(name string) string {
	if s.name == "" {
		return name
	}
	return s.name + ": " + name
}

// measure runs a command under the setting.
func (s setting) measure(ctx context.Context, c command) (cost, string, error) {
	switch {
	case s.cold:
		if err := dropCaches(); err != nil {
			return cost{}, "", err
		}
	case s.sync:
		syscall.Sync()
	}
	if s.free > 0 {
		if err := touchFree(s.free); err != nil {
			return cost{}, "", err
		}
	}
	if s.pin != "" {
		c.argv = append([]string{"taskset", "-c", s.pin}, c.argv...)
		c.env = append(c.env, fmt.Sprintf("GOMAXPROCS=%d", s.max))
	}
	return c.measure(ctx)
}

// synced appends to a floor's script what makes the file or directory $2 lie on the disk.
func (s setting) synced(script, flags string) string {
	if !s.sync {
		return script
	}
	return script + `; sync ` + flags + ` "$2"`
}

// dropCaches empties the kernel's page cache and its caches of directory entries and inodes, which only root may do.
func dropCaches() error {
	syscall.Sync()
	err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	if err != nil {
		return fmt.Errorf("only root can empty the page cache: %w", err)
	}
	return nil
}

// settings are those besides the table's own that were asked for and can be had. What can not is said.
func (o options) settings() (list []setting) {
	if o.rows["disk"] {
		list = append(list, setting{name: "disk", what: "a disk, the source cached", work: o.disk, sync: true, free: freeEnough})
	}
	if o.rows["cold"] {
		list = append(list, setting{name: "cold", what: "a disk, nothing cached: the page cache dropped before each command", work: o.disk, sync: true, cold: true, free: freeEnough})
	}
	if o.rows["core"] {
		list = append(list, setting{name: "core", what: "a RAM disk, one core for every command (taskset -c 0, GOMAXPROCS=1)", work: o.work, pin: "0", max: 1, free: freeEnough})
	}
	return list
}

// withoutUnreachable drops rows that this machine or these flags can not have, and says why.
func (o *options) withoutUnreachable() {
	drop := func(row, why string) {
		if o.rows[row] {
			delete(o.rows, row)
			o.left = append(o.left, row+": "+why)
			fmt.Fprintf(os.Stderr, "row %s is left out: %s\n", row, why)
		}
	}
	if o.disk == "" {
		drop("disk", "no -disk DIR")
		drop("cold", "no -disk DIR")
	}
	if os.Getuid() != 0 {
		drop("cold", "only root can empty the page cache")
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		drop("core", "no taskset")
	}
	if _, err := exec.LookPath("sqlite3"); err != nil {
		drop("dump-sqlite", "no sqlite3 (apt-get install sqlite3)")
	}
	if _, err := postgresPrograms(); err != nil {
		drop("dump-postgres", "no PostgreSQL server (apt-get install postgresql)")
	}
}

// in is the harness under another setting, with the same results and notes.
func (b *bench) in(ctx context.Context, s setting) (*bench, error) {
	o := b.o
	o.work = s.work
	tools, err := findTools(ctx, o)
	if err != nil {
		return nil, err
	}
	return &bench{o: o, tools: tools, results: b.results, notes: b.notes, at: s}, os.MkdirAll(s.work, 0o700)
}

// measureSettings takes the source tree through a repository's life under each other setting.
func (b *bench) measureSettings(ctx context.Context) (failed error) {
	for _, s := range b.o.settings() {
		err := b.measureUnder(ctx, s)
		if err == nil {
			err = b.save([]string{s.name})
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

func (b *bench) measureUnder(ctx context.Context, s setting) error {
	sub, err := b.in(ctx, s)
	if err != nil {
		return err
	}
	if err := room(s.work, sub.o.needTree(s)); err != nil {
		return err
	}
	return sub.measureTree(ctx)
}
