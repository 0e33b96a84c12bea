package sourcetest

import (
	"slices"
	"testing"

	"github.com/generalbots/backupd/internal/source"
)

// Kind says what sources of a kind can hold, and what of the contract they can not do. The zero value is files of a host, which can
// do all of it.
type Kind struct {
	// Nodes are what a source is asked to hold where the suite wants a whole tree; nil is [Tree].
	Nodes func() []Node
	// Content makes the content that a file has where the suite says text; nil is the text itself. Different texts
	// make different contents.
	Content func(text string) string
	// Same tells whether what was read is what a file held; nil wants every byte.
	Same func(got, held string) bool
	// Piped says that contents come out of pipes: each can be opened once a scan, in no other order than from its beginning,
	// its length is known at its end, and no inode lasts from one scan to the next.
	Piped bool
}

// RunKind runs the suite for sources of a kind.
func RunKind(t *testing.T, kind Kind, make Factory) {
	s := suite{kind, make}
	t.Run("holds exactly the tree", s.holdsTree)
	t.Run("entries are valid until their directory is released", s.validUntilRelease)
	t.Run("files outlive their directory", s.filesOutlive)
	t.Run("scans are independent", s.independent)
	t.Run("leaving the loop releases everything", s.leaving)
	t.Run("a panic in the loop releases everything", s.panicking)
	t.Run("cancelling ends the scan and releases everything", s.cancelling)
	t.Run("cancelling after the end releases everything", s.cancellingLate)
	t.Run("a cancelled context yields its cause alone", s.cancelledBefore)
	t.Run("a file opened tells what it is", s.opened)
}

// suite is what runs for one kind.
type suite struct {
	kind Kind
	make Factory
}

func (s suite) tree() []Node {
	if s.kind.Nodes == nil {
		return Tree()
	}
	return s.fit(s.kind.Nodes())
}

// fit gives nodes contents that the kind can hold.
func (s suite) fit(nodes []Node) []Node {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		if nodes[i].Type == source.Regular && s.kind.Content != nil {
			nodes[i].Content = s.kind.Content(nodes[i].Content)
		}
	}
	return nodes
}

func (s suite) same(got []byte, held string) bool {
	if s.kind.Same == nil {
		return string(got) == held
	}
	return s.kind.Same(string(got), held)
}
