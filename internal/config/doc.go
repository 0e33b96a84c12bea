// Package config reads the daemon's configuration: one YAML file, strictly. A
// key nobody knows, a key twice, a value of another type or out of range is an
// error that names file, line and key and says what is allowed, and all errors
// come at once.
//
// [Load] judges what the file says, [Config.Check] what it points to: that
// secrets are there and closed to others, that no directory lies in another's
// way. A daemon calls both and starts on neither's error.
//
// The comments on the fields of [Config] are the manual. Defaults stand in
// defaults.go and nowhere else.
package config
