// Package good is tested.
package good
