// Package low works behind your back.
package low

import (
	_ "embed"
	_ "image/png"
	. "strings"
)

var word string

func init() { word = ToUpper("a") }
