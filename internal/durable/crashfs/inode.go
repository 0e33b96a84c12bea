package crashfs

import (
	"bytes"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"syscall"

	"github.com/generalbots/backupd/internal/durable"
)

// inode is a file or a directory apart from its names. FS.mu guards it.
type inode struct {
	id  int
	dir bool

	data   []byte // what programs read
	shared bool   // data is also synced or belongs to another tree: copy before writing

	synced []byte   // what is on the disk, never written to
	log    []update // what was done since, oldest first
	lateN  int      // EarlyRename: so many of log are synced once SyncDir comes
}

// update is a write, or the cutting or growing of a file.
type update struct {
	off   int64
	data  []byte // nil for a change of length
	size  int64  // length afterwards
	sized bool   // the length was set and did not come from a write
}

func (f *FS) newInode(dir bool) *inode {
	f.nextID++
	return &inode{id: f.nextID, dir: dir}
}

func (i *inode) info(name string) durable.Info {
	if i.dir {
		return durable.Info{Name: name, Mode: fs.ModeDir}
	}
	return durable.Info{Name: name, Size: int64(len(i.data))}
}

// own makes data writable and of at least size bytes.
func (i *inode) own(size int64) {
	if i.shared {
		i.data = bytes.Clone(i.data)
		i.shared = false
	}
	if n := int(size) - len(i.data); n > 0 {
		old := len(i.data)
		i.data = slices.Grow(i.data, n)[:old+n]
		clear(i.data[old:])
	}
}

func (i *inode) writeAt(p []byte, off int64) {
	i.own(off + int64(len(p)))
	copy(i.data[off:], p)
	i.log = append(i.log, update{off: off, data: bytes.Clone(p), size: int64(len(i.data))})
}

func (i *inode) resize(size int64) {
	if size == int64(len(i.data)) {
		return
	}
	i.own(size)
	i.data = i.data[:size]
	i.log = append(i.log, update{size: size, sized: true})
}

// sync makes the contents durable, or remembers to when the disk is late.
func (i *inode) sync(lies Lies) {
	switch {
	case lies.IgnoreSync:
	case lies.EarlyRename:
		i.lateN = len(i.log)
	default:
		i.synced, i.log, i.lateN, i.shared = i.data, nil, 0, true
	}
}

// late does the Sync that EarlyRename put off.
func (i *inode) late() {
	if i.lateN == 0 {
		return
	}
	if i.lateN == len(i.log) {
		i.sync(Lies{})
		return
	}
	i.synced = i.upto(i.lateN)
	i.log = i.log[i.lateN:]
	i.lateN = 0
}

// upto returns the contents after the first n updates.
func (i *inode) upto(n int) []byte {
	data := bytes.Clone(i.synced)
	for _, u := range i.log[:n] {
		data = fit(data, u.size)
		copy(data[u.off:], u.data)
	}
	return data
}

func fit(data []byte, size int64) []byte {
	if int64(len(data)) > size {
		return data[:size:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// crash returns the contents that a power cut leaves. The rules stand in the
// package comment.
func (i *inode) crash(rng *rand.Rand, percent int) []byte {
	if len(i.log) == 0 {
		return i.synced
	}
	block := int64(512)
	if rng.IntN(2) == 1 {
		block = 4096
	}
	sizes := []int64{int64(len(i.synced))}
	longest := sizes[0]
	for _, u := range i.log {
		if u.size != sizes[len(sizes)-1] {
			sizes = append(sizes, u.size)
		}
		longest = max(longest, u.size)
	}
	out := make([]byte, longest)
	copy(out, i.synced)
	for off := int64(0); off < longest; off += block {
		end := min(off+block, longest)
		touching := i.touching(off, end)
		if len(touching) == 0 {
			continue
		}
		for _, u := range touching[:survive(rng, percent, len(touching))] {
			u.into(out[off:end], off)
		}
	}
	return fit(out, sizes[survive(rng, percent, len(sizes)-1)])
}

// touching returns the updates that change the bytes [off, end), oldest first.
func (i *inode) touching(off, end int64) []update {
	var list []update
	size := int64(len(i.synced))
	for _, u := range i.log {
		if u.sized && u.size < size && u.size < end && off < size {
			list = append(list, u)
		}
		if len(u.data) > 0 && u.off < end && u.off+int64(len(u.data)) > off {
			list = append(list, u)
		}
		size = u.size
	}
	return list
}

// into does the update to a block that begins at off in the file.
func (u update) into(block []byte, off int64) {
	if u.sized {
		clear(block[min(max(u.size-off, 0), int64(len(block))):])
		return
	}
	if u.off >= off {
		copy(block[u.off-off:], u.data)
	} else {
		copy(block, u.data[off-u.off:])
	}
}

// survive chooses how many of n successive states are on the disk: all of them
// with percent probability, else any number below, and none if percent is 0.
func survive(rng *rand.Rand, percent, n int) int {
	if n == 0 || rng.IntN(100) < percent {
		return n
	}
	if percent == 0 {
		return 0
	}
	return rng.IntN(n)
}

// file is a descriptor. FS.mu guards it.
type file struct {
	fs     *FS
	ino    *inode
	name   string // under which it was opened
	write  bool
	closed bool
}

func (h *file) check(kind string) error {
	switch {
	case h.closed:
		return fail(kind, h.name, fs.ErrClosed)
	case !h.write && kind != "read" && kind != "sync" && kind != "stat":
		return fail(kind, h.name, syscall.EBADF)
	}
	return nil
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	if err := h.fs.look("read", h.name); err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if err := h.check("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fail("read", h.name, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(h.ino.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.ino.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	if err := h.fs.begin("write", h.name); err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if err := h.check("write"); err != nil {
		return 0, err
	}
	if off < 0 || off > math.MaxInt-int64(len(p)) {
		return 0, fail("write", h.name, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := h.room("write", off+int64(len(p))); err != nil {
		return 0, err
	}
	h.ino.writeAt(p, off)
	return len(p), nil
}

// room checks that the file may grow to size.
func (h *file) room(kind string, size int64) error {
	grow := size - int64(len(h.ino.data))
	if grow <= 0 || h.fs.capacity == math.MaxInt64 {
		return nil
	}
	if h.fs.used()+grow > h.fs.capacity {
		return fail(kind, h.name, syscall.ENOSPC)
	}
	return nil
}

func (h *file) Size() (int64, error) {
	if err := h.fs.look("stat", h.name); err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if err := h.check("stat"); err != nil {
		return 0, err
	}
	return int64(len(h.ino.data)), nil
}

func (h *file) Fallocate(size int64) error {
	return h.sizeOp("fallocate", max(size, 0), size > 0, func(now int64) int64 { return max(now, size) })
}

func (h *file) Truncate(size int64) error {
	return h.sizeOp("truncate", size, size >= 0, func(int64) int64 { return size })
}

func (h *file) sizeOp(kind string, size int64, valid bool, to func(now int64) int64) error {
	if err := h.fs.begin(kind, h.name); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	if err := h.check(kind); err != nil {
		return err
	}
	if !valid {
		return fail(kind, h.name, syscall.EINVAL)
	}
	if err := h.room(kind, size); err != nil {
		return err
	}
	h.ino.resize(to(int64(len(h.ino.data))))
	return nil
}

func (h *file) Sync() error {
	if err := h.fs.begin("sync", h.name); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	if err := h.check("sync"); err != nil {
		return err
	}
	h.ino.sync(h.fs.lies)
	return nil
}

func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return fail("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	if h.fs.crashed {
		return fail("close", h.name, ErrCrashed)
	}
	return nil
}
