// Package attic was forgotten.
package attic
