// Package util is for nothing.
package util
