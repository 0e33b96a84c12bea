package main

import "testing"

func TestCeilingFor_LeavesTheCollectorAsMuchRoomAsItsPercentage(t *testing.T) {
	for _, c := range []struct{ live, most, want int64 }{
		{0, softMemory, leastCeiling},
		{10 << 20, softMemory, leastCeiling},
		{30 << 20, softMemory, 53 << 20},
		{40 << 20, softMemory, 68 << 20},
		{300 << 20, softMemory, softMemory},
		{10 << 20, 32 << 20, 32 << 20},
	} {
		if got := ceilingFor(c.live, c.most); got != c.want {
			t.Errorf("with %d MiB in use and %d at most: got %d, want %d", c.live>>20, c.most>>20, got, c.want)
		}
	}
	for live := int64(0); live < softMemory/2; live += 1 << 20 {
		if got := ceilingFor(live, softMemory); got < live+live*gcPercent/100 {
			t.Errorf("with %d MiB in use the limit of %d would have the collector run before its percentage says so", live>>20, got)
		}
	}
}
