// Bench stands beside.
package main

import (
	_ "net/http"

	_ "example.com/zip/v2"
)
