// Package mid goes its own way.
package mid

import (
	_ "example.org/house/aside"
	_ "example.org/house/low"
	_ "example.org/house/low/lowtest"
)
