// Package low says little.
package low

type Bare struct{}

func (b *Bare) Method() {}

type Box[T any] struct{}

func (Box[T]) Open() {}

func Func() {}

const Limit = 1

var Loose, tight int

// Store is documented.
type Store interface {
	// Get is documented.
	Get()
	Put()
}

// Codes are documented together.
const (
	One = 1
	Two = 2
)

type hidden struct{}

func (hidden) Visible() {}
