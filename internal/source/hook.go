package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// hookTime is how long a command may take where nothing is said, hookGrace how
	// long the rest of its output is waited for when it has ended, hookTail how much
	// of it an error quotes.
	hookTime  = 10 * time.Minute
	hookGrace = 100 * time.Millisecond
	hookTail  = 2000
)

// RunHook runs a command that prepares a source, or puts it back: argv is the
// program and its arguments, no shell. It gets an empty standard input and none
// of this process's environment but PATH. An error quotes the end of what it
// wrote. It is killed when ctx ends, or after limit; 0 is ten minutes.
//
// What the command itself ends with counts. What it leaves running, such as a mount
// in user space, goes on, and what that writes is read and thrown away.
func RunHook(ctx context.Context, argv []string, limit time.Duration) error {
	if len(argv) == 0 {
		return errors.New("a hook without a command")
	}
	limit = cmp.Or(limit, hookTime)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	// What it starts belongs to it and ends with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	out, err := newTail()
	if err != nil {
		return err
	}
	c.Stdout, c.Stderr = out.w, out.w
	err = c.Run()
	text := out.end()
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("%v: it was ended, as it took longer than %v", err, limit)
	case ctx.Err() != nil:
		err = fmt.Errorf("%v: it was ended, as the backup was stopped", err)
	}
	if text = strings.TrimSpace(strings.ToValidUTF8(text, "?")); text != "" {
		text = ": " + text
	}
	return fmt.Errorf("the command %s ended with: %v%s", argv[0], err, text)
}

// tail keeps the end of what is written into a pipe. It reads until nobody has the
// other end any more, which may be long after the command has ended.
type tail struct {
	w    *os.File // for the command
	done chan struct{}

	mu   sync.Mutex
	kept bytes.Buffer // guarded by mu
}

func newTail() (*tail, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("output of a hook: %w", err)
	}
	t := &tail{w: w, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		defer r.Close()
		b := make([]byte, 16<<10)
		for {
			n, err := r.Read(b)
			t.keep(b[:n])
			if err != nil {
				return // the end
			}
		}
	}()
	return t, nil
}

func (t *tail) keep(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.Write(p[max(0, len(p)-hookTail):])
	if over := t.kept.Len() - hookTail; over > 0 {
		t.kept.Next(over)
	}
}

// end is what the command wrote last, once it has ended.
func (t *tail) end() string {
	t.w.Close()
	select {
	case <-t.done:
	case <-time.After(hookGrace):
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept.String()
}
