// Package aside is aside.
package aside
