// House is a program.
package main

import (
	"os"

	"example.org/house/low"
	"example.org/house/mid"
)

func main() {
	if mid.Join(low.Word) == "" {
		os.Exit(1)
	}
}
