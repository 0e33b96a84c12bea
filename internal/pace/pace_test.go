package pace_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/generalbots/backupd/internal/pace"
)

// holds fails unless measure gives want within a tenth, once of twenty times, each at least as long as the one before: what
// is over by a piece that was under way when the time was up shows less the longer it is, and both less and a little more
// may be because the machine is busy. A limit that is not kept is far above want each time, as the controls show.
func holds(t *testing.T, what string, want float64, measure func(during time.Duration) float64) {
	t.Helper()
	var got []string
	for during := 400 * time.Millisecond; len(got) < 20; during = min(2*during, 3200*time.Millisecond) {
		is := measure(during)
		if math.Abs(is-want) <= want/10 {
			return
		}
		got = append(got, fmt.Sprintf("%.4g", is))
	}
	t.Errorf("%s: %v, want %.4g within a tenth", what, got, want)
}

// move has workers move bytes in pieces for a time and returns how many a second went.
func move(p *pace.Pace, workers, piece int, during time.Duration) float64 {
	ctx, stop := context.WithTimeout(context.Background(), during)
	defer stop()
	var mu sync.Mutex
	moved := 0
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				// What is paid for is moved; what the end cut short is not.
				if p.Spend(ctx, piece) == nil {
					mu.Lock()
					moved += piece
					mu.Unlock()
				} else {
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(moved) / time.Since(began).Seconds()
}

func TestSpend_KeepsTheRateOfBytesWhateverThePieces(t *testing.T) {
	const rate = 64 << 20
	for _, c := range []struct{ workers, piece int }{{1, 4 << 10}, {4, 256 << 10}, {2, 1 << 20}} {
		holds(t, fmt.Sprintf("%d workers, pieces of %d: bytes a second", c.workers, c.piece), rate, func(during time.Duration) float64 {
			return move(pace.New(pace.Limits{Bytes: rate}), c.workers, c.piece, during)
		})
	}
	// The control: without the limit the same loop is far above, if it comes to run at all in that time.
	got := 0.0
	for try := 0; try < 20 && got < 10*rate; try++ {
		got = move(pace.New(pace.Limits{Cores: 1e6}), 1, 256<<10, 50*time.Millisecond)
	}
	if got < 10*rate {
		t.Errorf("without a limit %.4g bytes a second: the loop above proves nothing", got)
	}
}

// burn works in pieces of a millisecond for a time and returns how many cores that took.
func burn(t *testing.T, p *pace.Pace, workers int, during time.Duration) float64 {
	ctx, stop := context.WithTimeout(context.Background(), during)
	defer stop()
	began, used := time.Now(), pace.ProcessTime()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for x := uint64(1); ctx.Err() == nil; {
				for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
					x *= 0x9e3779b97f4a7c15
				}
				if err := p.Spend(ctx, 0); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return (pace.ProcessTime() - used).Seconds() / time.Since(began).Seconds()
}

func TestSpend_KeepsTheShareOfTheProcessors(t *testing.T) {
	const cores = 0.1 // which is to be had on a busy machine too
	for _, workers := range []int{1, 3} {
		holds(t, "cores used", cores, func(during time.Duration) float64 {
			return burn(t, pace.New(pace.Limits{Cores: cores}), workers, during)
		})
	}
	var free float64
	for range 60 { // a busy machine has little to give, but not every time
		if free = max(free, burn(t, nil, 3, 100*time.Millisecond)); free > 2*cores {
			return
		}
	}
	t.Errorf("without a limit %.2f cores: the loop above proves nothing", free)
}

func TestSpend_HoldsNobodyBackForPiecesThatAreFewAndLong(t *testing.T) {
	p := pace.New(pace.Limits{Cores: 0.5})
	for range 2 {
		used := pace.ProcessTime()
		for pace.ProcessTime()-used < 60*time.Millisecond {
		}
		time.Sleep(200 * time.Millisecond)
		if pause := p.Pause(); pause > 0 {
			t.Errorf("a pause of %v after 60 ms of work in more than 260 ms, which is less than half a core", pause)
		}
	}
}

func TestSpend_WhatOthersUsedIsNotPaidForEver(t *testing.T) {
	p := pace.New(pace.Limits{Cores: 0.01})
	used := pace.ProcessTime()
	for pace.ProcessTime()-used < 100*time.Millisecond {
	}
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer stop()
	if err := p.Spend(ctx, 0); err == nil {
		t.Error("no pause after ten seconds' worth of processor time")
	}
	// All of it would take ten seconds.
	if left := p.Pause(); left > 2*time.Second {
		t.Errorf("a pause of %v", left)
	}
}

func TestSpend_EndsAtOnceWithTheCause(t *testing.T) {
	p := pace.New(pace.Limits{Bytes: 1 << 10})
	why := errors.New("somebody said stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	began := time.Now()
	if err := p.Spend(ctx, 1<<20); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	if took := time.Since(began); took > 30*time.Second { // of seventeen minutes
		t.Errorf("it took %v to hear of the end", took)
	}
}

func TestSpend_IdleTimeBuysNoFlood(t *testing.T) {
	const rate = 1 << 20
	p := pace.New(pace.Limits{Bytes: rate})
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	moved := 0
	for p.Spend(ctx, 4<<10) == nil {
		moved += 4 << 10
	}
	// A busy machine may end the tenth of a second late. Half of the rest would be 150 ms worth; 50 are what is saved.
	took := time.Since(began)
	if most := int((took + 100*time.Millisecond).Seconds() * rate); moved > most {
		t.Errorf("%d bytes within %v after 0.3 s of rest, want %d at most", moved, took, most)
	}
}

func TestNew_WithoutLimitsIsNothing(t *testing.T) {
	p := pace.New(pace.Limits{})
	if p != nil {
		t.Fatal("there is a pace without limits")
	}
	ctx := pace.In(context.Background(), p)
	if ctx != context.Background() || pace.Of(ctx) != nil {
		t.Error("the context carries a pace that limits nothing")
	}
	if err := p.Spend(ctx, 1<<40); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = p.Spend(ctx, 1); _ = pace.Of(ctx) }); n != 0 {
		t.Errorf("%v allocations without a limit", n)
	}
}

func BenchmarkSpend(b *testing.B) {
	type value struct{}
	ctx := context.Background()
	for range 6 { // as deep as a job's
		ctx = context.WithValue(ctx, value{}, 1)
	}
	for _, c := range []struct {
		name string
		p    *pace.Pace
	}{{"none", nil}, {"bytes", pace.New(pace.Limits{Bytes: 1 << 50})}, {"cores", pace.New(pace.Limits{Cores: 1e6})}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				_ = c.p.Spend(ctx, 64)
			}
		})
	}
	b.Run("of", func(b *testing.B) {
		for b.Loop() {
			_ = pace.Of(ctx).Spend(ctx, 64)
		}
	})
}
