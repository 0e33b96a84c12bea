package crypto

import "golang.org/x/sys/unix"

// page is a mapping of its own for one secret of 32 bytes.
type page struct{ mem []byte }

// newPage maps a page and asks for it to be locked into memory, left out of core
// dumps and emptied in forked children. Only the mapping itself must succeed:
// the limit of locked memory may be zero in a container, and a key that can be
// swapped is better than no restore.
func newPage() (*page, error) {
	mem, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	_ = unix.Mlock(mem)
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	_ = unix.Madvise(mem, unix.MADV_WIPEONFORK)
	return &page{mem}, nil
}

func (p *page) bytes() []byte { return p.mem[:keySize:keySize] }

// free wipes and unmaps. It runs when nothing refers to the secret any more.
func (p *page) free() {
	clear(p.mem)
	_ = unix.Munmap(p.mem)
}
