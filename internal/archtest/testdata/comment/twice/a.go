// Package twice says so.
package twice
