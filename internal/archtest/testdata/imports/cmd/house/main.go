// House does nothing.
package main

import (
	_ "example.org/house/low"
)

func main() {}
