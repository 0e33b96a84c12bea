package main

import (
	"context"
	"io"
	"time"
)

// lastWords is how long after an interruption an output that nobody reads may keep the process.
const lastWords = time.Second

// output passes on what is written to it. A write to a pipe that nobody reads, as a pager does not before it is told to,
// would hold up the end of an interrupted process: it is given up, and the writer with it.
type output struct {
	ctx context.Context
	w   io.Writer
}

// Write is io.Writer's. Given up it returns why the context ended, and b must stay as it is.
func (o *output) Write(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := o.w.Write(b)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-o.ctx.Done():
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(lastWords):
		return 0, context.Cause(o.ctx)
	}
}
