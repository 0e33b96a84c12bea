package main

import "testing"

func TestCeiling_LeavesAShortProcessAsMuchRoomAsItsPercentage(t *testing.T) {
	for _, step := range []struct{ live, most, want int64 }{
		{0, softMemory, leastCeiling},
		{10 << 20, softMemory, leastCeiling},
		{30 << 20, softMemory, 53 << 20},
		{40 << 20, softMemory, 68 << 20},
		{300 << 20, softMemory, softMemory},
		{10 << 20, 32 << 20, 32 << 20},
	} {
		c := &ceiling{most: step.most}
		for range ceilingYouth {
			if got := c.next(step.live); got != step.want {
				t.Fatalf("with %d MiB in use and %d at most: got %d, want %d", step.live>>20, step.most>>20, got, step.want)
			}
		}
	}
	for live := int64(0); live < softMemory/2; live += 1 << 20 {
		c := &ceiling{most: softMemory}
		if got := c.next(live); got < live+live*gcPercent/100 {
			t.Errorf("with %d MiB in use the limit of %d would have the collector run before its percentage says so", live>>20, got)
		}
	}
}

func TestCeiling_RisesForWhatLastsAndNotForABurst(t *testing.T) {
	const (
		low, high   = 30 << 20, 50 << 20
		under, over = low * 3 / 2, high * 3 / 2
	)
	settled := func() *ceiling {
		c := &ceiling{most: softMemory}
		for range ceilingMemory {
			c.next(low)
		}
		return c
	}
	c := settled()
	for i := range ceilingBurst - 1 {
		if got := c.next(high); got != under {
			t.Fatalf("%d collections into a burst: got %d MiB, want %d", i+1, got>>20, under>>20)
		}
	}
	if got := c.next(high); got != over {
		t.Errorf("%d collections after what lasts has grown: got %d MiB, want %d", ceilingBurst, got>>20, over>>20)
	}
	if got := c.next(low); got != under {
		t.Errorf("what lasts has shrunk: got %d MiB, want %d", got>>20, under>>20)
	}

	// High and low in turn: with a limit below the high the collector would run without end.
	c = settled()
	rose := -1
	for i := range 2 * ceilingMemory {
		live := int64(high)
		if i%ceilingBurst == ceilingBurst-1 {
			live = low
		}
		switch got := c.next(live); {
		case got == over && rose < 0:
			rose = i
		case got != over && rose >= 0:
			t.Fatalf("collection %d: %d MiB, after %d at collection %d", i, got>>20, over>>20, rose)
		}
	}
	if rose < 0 || rose > ceilingMemory*2/3 {
		t.Errorf("what is high in %d of %d collections is counted on from collection %d on", ceilingBurst-1, ceilingBurst, rose)
	}
}
