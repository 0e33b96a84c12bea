// Bench measures.
package main

import "net/http"

func main() { http.NewServeMux() }
