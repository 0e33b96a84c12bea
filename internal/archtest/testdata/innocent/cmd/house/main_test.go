package main

import (
	"example.com/script"
)
