package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// memTotal is the room a Mem claims to have.
const memTotal = 1 << 40

// Mem is a [Store] in memory, laid out like a directory. It ends with the
// process.
type Mem struct {
	dirs map[string]bool // constant

	mu      sync.Mutex // guards the rest
	objects map[string][]byte
	used    int64
	locks   map[string]*memLocks
}

var _ Store = (*Mem)(nil)

// NewMem returns an empty store.
func NewMem() *Mem {
	m := &Mem{dirs: map[string]bool{".": true}, objects: map[string][]byte{}, locks: map[string]*memLocks{}}
	for _, dir := range layout() {
		m.dirs[dir] = true
	}
	return m
}

// Create starts an object in a buffer of its own.
func (m *Mem) Create(ctx context.Context, name string, size int64) (Writer, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !m.dirs[path.Dir(name)] {
		return nil, fmt.Errorf("create %s: %w", name, ErrNotExist)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if size < 0 || size > memTotal-m.used {
		return nil, fmt.Errorf("create %s: %w", name, ErrNoSpace)
	}
	return &memWriter{m: m, name: name, size: size}, nil
}

type memWriter struct {
	m    *Mem
	name string
	size int64

	mu   sync.Mutex // guards the rest
	buf  []byte
	done bool
}

func (w *memWriter) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return 0, fmt.Errorf("write %s: %w", w.name, ErrClosed)
	}
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return 0, fmt.Errorf("write %s: %w", w.name, ErrTooLarge)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if end := int(off) + len(p); end > len(w.buf) {
		w.buf = slices.Grow(w.buf, end-len(w.buf))
		clear(w.buf[len(w.buf):end])
		w.buf = w.buf[:end]
	}
	return copy(w.buf[off:], p), nil
}

func (w *memWriter) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return fmt.Errorf("commit %s: %w", w.name, ErrClosed)
	}
	w.done = true
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if _, ok := w.m.objects[w.name]; ok || w.m.dirs[w.name] {
		return fmt.Errorf("commit %s: %w", w.name, ErrExist)
	}
	w.m.objects[w.name] = w.buf
	w.m.used += int64(len(w.buf))
	return nil
}

func (w *memWriter) Abort() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.done, w.buf = true, nil
	}
	return nil
}

// Open returns the object's bytes as they are and stay.
func (m *Mem) Open(ctx context.Context, name string) (Object, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, ErrNotExist)
	}
	return &memObject{name: name, size: int64(len(data)), data: data}, nil
}

type memObject struct {
	name string
	size int64

	mu     sync.RWMutex // guards the rest
	data   []byte
	closed bool
}

func (o *memObject) ReadAt(p []byte, off int64) (int, error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return 0, fmt.Errorf("read %s: %w", o.name, ErrClosed)
	}
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset", o.name)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= o.size {
		return 0, io.EOF
	}
	n := copy(p, o.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (o *memObject) Size() int64 { return o.size }

func (o *memObject) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return fmt.Errorf("close %s: %w", o.name, ErrClosed)
	}
	o.closed, o.data = true, nil
	return nil
}

// List looks at every name.
func (m *Mem) List(ctx context.Context, prefix string) ([]Info, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if prefix != "" {
		if !m.dirs[prefix] {
			return nil, fmt.Errorf("list %s: %w", prefix, ErrNotExist)
		}
		prefix += "/"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Info
	for name, data := range m.objects {
		if strings.HasPrefix(name, prefix) {
			list = append(list, Info{Name: name, Size: int64(len(data))})
		}
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Remove forgets the objects; open ones stay readable, as files do.
func (m *Mem) Remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		m.used -= int64(len(m.objects[name]))
		delete(m.objects, name)
	}
	return nil
}

// Space counts what is stored against a claimed total.
func (m *Mem) Space(ctx context.Context) (Space, error) {
	if err := ctx.Err(); err != nil {
		return Space{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return Space{Free: memTotal - m.used, Total: memTotal}, nil
}

type memLocks struct {
	shared    int
	exclusive bool
}

// Lock excludes other holders on the same Mem.
func (m *Mem) Lock(ctx context.Context, name string, mode LockMode) (io.Closer, error) {
	if err := checkLock(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[name]
	if l == nil {
		l = &memLocks{}
		m.locks[name] = l
	}
	switch {
	case l.exclusive:
		return nil, &LockedError{Name: name, Owner: strconv.Itoa(os.Getpid())}
	case mode == LockExclusive && l.shared > 0:
		return nil, &LockedError{Name: name}
	case mode == LockExclusive:
		l.exclusive = true
	default:
		l.shared++
	}
	return &memLock{m: m, l: l, mode: mode}, nil
}

type memLock struct {
	m    *Mem
	l    *memLocks
	mode LockMode
	once sync.Once
}

func (k *memLock) Close() error {
	k.once.Do(func() {
		k.m.mu.Lock()
		defer k.m.mu.Unlock()
		if k.mode == LockExclusive {
			k.l.exclusive = false
		} else {
			k.l.shared--
		}
	})
	return nil
}
