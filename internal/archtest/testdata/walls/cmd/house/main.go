// House climbs too.
package main

import _ "example.com/script"
