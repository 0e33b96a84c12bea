// Package lowtest may.
package lowtest

import _ "testing"
