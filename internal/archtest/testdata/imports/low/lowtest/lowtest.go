// Package lowtest tests low.
package lowtest

import _ "example.org/house/low"
