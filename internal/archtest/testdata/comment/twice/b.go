// Package twice says so again.
package twice
