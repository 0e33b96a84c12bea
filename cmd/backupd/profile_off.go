//go:build !profile

package main

// profile does nothing: see make profile.
func profile() (stop func(), err error) { return func() {}, nil }
