package low

import (
	_ "example.org/house/low/lowtest"
	_ "example.org/house/mid"
)
