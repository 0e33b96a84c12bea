package main

import _ "example.com/script"
