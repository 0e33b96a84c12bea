//go:build !linux

package crypto

// page is ordinary memory on systems whose calls this package does not know.
type page struct{ mem [keySize]byte }

func newPage() (*page, error) { return new(page), nil }
func (p *page) bytes() []byte { return p.mem[:] }
func (p *page) free()         { clear(p.mem[:]) }
