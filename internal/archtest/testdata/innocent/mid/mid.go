// Package mid joins.
package mid

import "example.org/house/low"

// Join joins.
func Join(s string) string { return s + low.Word }
