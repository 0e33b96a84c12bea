// Package low complains.
package low

import (
	"errors"
	"fmt"
)

func open(err error) error {
	if err == nil {
		return errors.New("Failed to notice")
	}
	return fmt.Errorf("failed to open: %v", err)
}
