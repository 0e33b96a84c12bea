// Package low is low.
package low
