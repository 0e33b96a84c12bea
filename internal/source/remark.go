package source

// Remark is something a source has to say beside what it yields.
type Remark struct {
	Path    string // what it is about; empty for all of it
	Text    string
	Problem bool // what was captured may be of no use
}

// Remarker is a [Source] that has remarks. They are asked for when its scan is
// over and its files are read.
type Remarker interface {
	// Remarks returns all of them, in no order.
	Remarks() []Remark
}
