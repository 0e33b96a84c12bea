// Package types is for nothing.
package types
