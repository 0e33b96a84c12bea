// Package targettest is what every place that a restore can land in has to pass: that what is put there comes back
// (Run), and that nothing outside is reached whoever plays with the tree meanwhile (Hostile).
//
// Results are looked at by Walk, which knows nothing of package target. The suites behave according to the user they
// run as; both are worth running as root and as somebody else.
package targettest
