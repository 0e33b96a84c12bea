package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// hookTime is how long a command may take where nothing is said, hookGrace how
	// long it has to end when that is over, hookTail how much of its output an error
	// quotes.
	hookTime  = 10 * time.Minute
	hookGrace = 5 * time.Second
	hookTail  = 2000
)

// RunHook runs a command that prepares a source, or puts it back: argv is the
// program and its arguments, no shell. It gets an empty standard input and none
// of this process's environment but PATH. An error quotes the end of what it
// wrote. It is killed when ctx ends, or after limit; 0 is ten minutes.
func RunHook(ctx context.Context, argv []string, limit time.Duration) error {
	if len(argv) == 0 {
		return errors.New("a hook without a command")
	}
	limit = cmp.Or(limit, hookTime)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	c.WaitDelay = hookGrace
	// What it starts belongs to it and ends with it.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	var out tail
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("%v: it was ended, as it took longer than %v", err, limit)
	case ctx.Err() != nil:
		err = fmt.Errorf("%v: it was ended, as the backup was stopped", err)
	}
	text := strings.TrimSpace(strings.ToValidUTF8(out.String(), "?"))
	if text != "" {
		text = ": " + text
	}
	return fmt.Errorf("the command %s ended with: %v%s", argv[0], err, text)
}

// tail keeps the end of what is written to it. The buffer is not embedded: its
// ReadFrom would take all there is.
type tail struct{ end bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.end.Write(p[max(0, len(p)-hookTail):])
	if over := t.end.Len() - hookTail; over > 0 {
		t.end.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.end.String() }
