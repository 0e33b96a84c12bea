// Package archtest holds the rules of the house as Go tests: who may import whom, where
// third-party modules may appear, who may end the process, where files are synced and renamed,
// what must be documented, and what must not stay in the text.
//
// The import diagram and the table of walls are read from ARCHITECTURE.md, so that the document
// cannot say one thing and the code another. What is allowed in spite of a rule stands in
// exceptions.txt with its reason; an exception nothing needs any more is a finding too.
//
// Each rule is a function over a tree of source files. It runs over the project, which must be
// innocent, and over a small tree of its own below testdata, which must be found guilty of exactly
// what its guilty.txt lists: a rule that finds nothing there has stopped working.
package archtest
