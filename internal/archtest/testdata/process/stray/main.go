// Stray may not.
package main

func main() {}
