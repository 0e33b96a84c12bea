// Package durable may.
package durable

import "os"

func publish() error { return os.Rename("a", "b") }
